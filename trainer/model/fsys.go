package model

import (
	"io"
	"io/fs"
	"path"
	"time"
)

// FS shows the files of a model as a file system, which is how the tokenizer reads them.
func FS(files Files) fs.FS { return fsys{files} }

type fsys struct{ files Files }

// Open implements fs.FS.
func (s fsys) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) || name == "." {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	r, size, err := s.files.Open(name)
	if err != nil {
		return nil, err
	}
	return &file{SectionReader: io.NewSectionReader(r, 0, size), r: r, name: path.Base(name)}, nil
}

// file implements fs.File.
type file struct {
	*io.SectionReader
	r    io.ReaderAt
	name string
}

func (f *file) Close() error {
	if c, ok := f.r.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func (f *file) Stat() (fs.FileInfo, error) { return info{f.name, f.SectionReader.Size()}, nil }

type info struct {
	name string
	size int64
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return 0o444 }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return false }
func (i info) Sys() any           { return nil }
