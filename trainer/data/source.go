package data

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Source is a file of rows.
type Source struct {
	Name string // for messages
	Type string // a format's name; empty: the keys of the first row decide
	Open func() (io.ReadCloser, error)
}

// File is the Source of a file: JSON lines, plain or compressed (.gz, .zst), or a parquet table, whose rows it shows as JSON
// lines.
func File(path, typ string) Source {
	return Source{Name: filepath.Base(path), Type: typ, Open: func() (io.ReadCloser, error) {
		f, err := openRegular(path)
		if err != nil {
			return nil, err
		}
		r, err := decompressed(f, path)
		if err != nil {
			f.Close()
			return nil, err
		}
		return r, nil
	}}
}

// openRegular opens a file whose end is certain to come. It looks before it opens, because opening a FIFO already waits
// for a writer, and rows are read more than once.
func openRegular(path string) (*os.File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is a %s, not a regular file; write the rows to a file and name that", path, kindOf(st.Mode()))
	}
	return os.Open(path)
}

func kindOf(m os.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m&os.ModeNamedPipe != 0:
		return "pipe"
	case m&os.ModeSocket != 0:
		return "socket"
	}
	return "device"
}

type readCloser struct {
	io.Reader
	close func() error
}

func (r readCloser) Close() error { return r.close() }

func decompressed(f *os.File, path string) (io.ReadCloser, error) {
	switch {
	case strings.HasSuffix(path, ".parquet"):
		t, err := parquetLines(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return t, nil
	case strings.HasSuffix(path, ".gz"):
		z, err := gzip.NewReader(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return readCloser{z, f.Close}, nil
	case strings.HasSuffix(path, ".zst"):
		z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return readCloser{z, func() error { z.Close(); return f.Close() }}, nil
	}
	return f, nil
}

// lines calls do with each line that is not blank, numbered from 1. The bytes are valid during the call.
func (s Source) lines(do func(n int, line []byte) error) error {
	f, err := s.Open()
	if err != nil {
		return fmt.Errorf("open data: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 64<<10)
	var buf []byte
	for n := 1; ; n++ {
		buf, err = readLine(r, buf[:0])
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%s:%d: %w", s.Name, n, err)
		}
		line := bytes.TrimSpace(buf)
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		if len(line) > 0 {
			if err := do(n, line); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

// readLine appends the next line to buf; io.EOF comes with the last one.
func readLine(r *bufio.Reader, buf []byte) ([]byte, error) {
	for {
		part, err := r.ReadSlice('\n')
		if len(buf)+len(part) > MaxLine {
			return nil, fmt.Errorf("row longer than %d bytes", MaxLine)
		}
		buf = append(buf, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return buf, err
		}
	}
}
