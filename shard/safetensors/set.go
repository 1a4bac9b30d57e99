package safetensors

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Names of the files in a Hugging Face directory.
const (
	SingleFile = "model.safetensors"
	IndexFile  = "model.safetensors.index.json"
)

// Files opens files of a model by their name relative to its root. Where the file does not exist the error is
// fs.ErrNotExist. A reader that is also an io.Closer is closed by whoever opened it.
type Files interface {
	Open(path string) (r io.ReaderAt, size int64, err error)
}

// Dir is Files over a folder of the file system. A path with .. cannot leave it; symbolic links are followed, because
// the cache of the Hugging Face hub is made of links.
type Dir string

// Open implements Files.
func (d Dir) Open(path string) (io.ReaderAt, int64, error) {
	if !filepath.IsLocal(filepath.FromSlash(path)) {
		return nil, 0, fmt.Errorf("%.80q leads out of %s", path, string(d))
	}
	name := filepath.Join(string(d), filepath.FromSlash(path))
	info, err := os.Stat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for whoever writes to it
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// Set is the tensors of a model, from one file or from several that an index joins.
type Set struct {
	files  []*File
	where  map[string]*File
	closer []io.Closer
}

// OpenSet opens model.safetensors or, where that is absent, the files named by model.safetensors.index.json.
func OpenSet(files Files) (*Set, error) {
	s, err := OpenFile(files, SingleFile)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	s = &Set{where: map[string]*File{}}
	if err := s.openIndexed(files); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// OpenFile opens one file as a set, such as an adapter's adapter_model.safetensors.
func OpenFile(files Files, path string) (*Set, error) {
	s := &Set{where: map[string]*File{}}
	f, err := s.open(files, path)
	if err != nil {
		s.Close()
		return nil, err
	}
	for _, t := range f.Tensors() {
		s.where[t.Name] = f
	}
	return s, nil
}

func (s *Set) openIndexed(files Files) error {
	index, err := readIndex(files)
	if err != nil {
		return err
	}
	byName := map[string]*File{}
	for _, name := range slices.Sorted(maps.Keys(index)) {
		path := index[name]
		if byName[path] == nil {
			if len(byName) == MaxShards {
				return fmt.Errorf("%s: more than %d files", IndexFile, MaxShards)
			}
			if byName[path], err = s.open(files, path); err != nil {
				return err
			}
		}
		if _, ok := byName[path].Tensor(name); !ok {
			return fmt.Errorf("%s: %s holds no tensor %.80q", IndexFile, path, name)
		}
		s.where[name] = byName[path]
	}
	return nil
}

// readIndex returns tensor name → file name.
func readIndex(files Files) (map[string]string, error) {
	r, size, err := files.Open(IndexFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("neither %s nor %s is there: %w", SingleFile, IndexFile, err)
	}
	if err != nil {
		return nil, err
	}
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	if size > MaxIndex {
		return nil, fmt.Errorf("%s: %d bytes, limit %d", IndexFile, size, MaxIndex)
	}
	text := make([]byte, size)
	if err := readFull(r, text, 0); err != nil {
		return nil, fmt.Errorf("%s: %w", IndexFile, err)
	}
	index, err := parseIndex(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", IndexFile, err)
	}
	return index, nil
}

func parseIndex(text []byte) (map[string]string, error) {
	var index map[string]string
	dec := newDecoder(text)
	err := object(dec, func(key string) (err error) {
		if key == "weight_map" {
			index, err = stringMap(dec)
			return err
		}
		var skip json.RawMessage // "metadata" and whatever else: nothing that loading needs
		return dec.Decode(&skip)
	})
	if err != nil {
		return nil, err
	}
	if index == nil {
		return nil, errors.New(`has no "weight_map"`)
	}
	for name, path := range index {
		if !plainName(path) {
			return nil, fmt.Errorf("tensor %.80q lies in %.80q, which is not a file beside the index", name, path)
		}
	}
	return index, atEnd(dec)
}

// plainName is true for a file name without folders.
func plainName(path string) bool {
	return filepath.IsLocal(path) && path != "." && !strings.ContainsAny(path, `/\`)
}

func (s *Set) open(files Files, path string) (*File, error) {
	r, size, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	if c, ok := r.(io.Closer); ok {
		s.closer = append(s.closer, c)
	}
	f, err := Open(r, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.files = append(s.files, f)
	return f, nil
}

// Names lists the tensors, sorted.
func (s *Set) Names() []string { return slices.Sorted(maps.Keys(s.where)) }

// Tensor looks a tensor up by name.
func (s *Set) Tensor(name string) (Tensor, bool) {
	f, ok := s.where[name]
	if !ok {
		return Tensor{}, false
	}
	return f.Tensor(name)
}

// ReadF32 is File.ReadF32 of the file that holds the tensor.
func (s *Set) ReadF32(name string, dst []float32) error {
	f, ok := s.where[name]
	if !ok {
		return fmt.Errorf("safetensors: no tensor %.80q", name)
	}
	return f.ReadF32(name, dst)
}

// ReadPartF32 is File.ReadPartF32 of the file that holds the tensor.
func (s *Set) ReadPartF32(name string, lo int, dst []float32) error {
	f, ok := s.where[name]
	if !ok {
		return fmt.Errorf("safetensors: no tensor %.80q", name)
	}
	return f.ReadPartF32(name, lo, dst)
}

// Raw is File.Raw of the file that holds the tensor.
func (s *Set) Raw(name string) (*io.SectionReader, Tensor, error) {
	f, ok := s.where[name]
	if !ok {
		return nil, Tensor{}, fmt.Errorf("safetensors: no tensor %.80q", name)
	}
	return f.Raw(name)
}

// Metadata is that of the first file.
func (s *Set) Metadata() map[string]string {
	if len(s.files) == 0 {
		return nil
	}
	return s.files[0].Metadata()
}

// Close closes the files that can be closed.
func (s *Set) Close() error {
	var errs []error
	for _, c := range s.closer {
		errs = append(errs, c.Close())
	}
	s.closer = nil
	return errors.Join(errs...)
}
