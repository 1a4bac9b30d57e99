package shard

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/ipfs/go-cid"
)

// WriteFile stores what r holds as blocks and returns the file that lists them, under path.
func WriteFile(ctx context.Context, p Putter, path string, r io.Reader) (File, error) {
	if err := CheckPath(path); err != nil {
		return File{}, fmt.Errorf("file %.80q: %w", path, err)
	}
	f := File{Path: path}
	buf := make([]byte, MaxBlock)
	for {
		n, end, err := fill(r, buf)
		if err != nil {
			return File{}, fmt.Errorf("file %s: %w", path, err)
		}
		if n > 0 {
			c, err := p.Add(ctx, cid.Raw, buf[:n])
			if err != nil {
				return File{}, fmt.Errorf("file %s: %w", path, err)
			}
			f.Blocks = append(f.Blocks, c)
			f.Size += uint64(n)
		}
		if end {
			return f, nil
		}
	}
}

// fill reads until buf is full or r ends. io.ReadFull would not do: a broken download also ends with
// io.ErrUnexpectedEOF, and must not pass for a short file.
func fill(r io.Reader, buf []byte) (n int, end bool, err error) {
	for n < len(buf) {
		k, err := r.Read(buf[n:])
		n += k
		if err == io.EOF {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// Reader reads a File out of its blocks. It implements io.ReaderAt, is safe for concurrent use and keeps the last
// few blocks, so that reading piece by piece costs one Get per block.
type Reader struct {
	ctx  context.Context // of the whole reading: io.ReaderAt has no place for one
	from Getter
	file File

	mu    sync.Mutex
	cache [readerCache]cached // guarded by mu; most recently used first
}

type cached struct {
	index int // of the block
	data  []byte
}

// readerCache is the number of blocks a Reader keeps: one for each of a few goroutines that read side by side.
const readerCache = 4

// NewReader returns a reader of f's bytes. ctx ends all its reads.
func NewReader(ctx context.Context, g Getter, f File) *Reader {
	return &Reader{ctx: ctx, from: g, file: f}
}

// Size is the file's length in bytes.
func (r *Reader) Size() int64 { return int64(r.file.Size) }

// ReadAt implements io.ReaderAt.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("file %s: negative offset %d", r.file.Path, off)
	}
	total := 0
	for total < len(p) {
		if off >= r.Size() {
			return total, io.EOF
		}
		block, err := r.block(int(off / MaxBlock))
		if err != nil {
			return total, err
		}
		n := copy(p[total:], block[off%MaxBlock:])
		total, off = total+n, off+int64(n)
	}
	return total, nil
}

// block returns the i-th block, checked for length: a wrong length would shift all that follows.
func (r *Reader) block(i int) ([]byte, error) {
	if data := r.cached(i); data != nil {
		return data, nil
	}
	if i >= len(r.file.Blocks) {
		return nil, fmt.Errorf("file %s: %d blocks do not hold %d bytes", r.file.Path, len(r.file.Blocks), r.file.Size)
	}
	data, err := r.from.Get(r.ctx, r.file.Blocks[i]) // without the lock: others go on reading what is cached
	if err != nil {
		return nil, fmt.Errorf("file %s, block %d of %d: %w", r.file.Path, i, len(r.file.Blocks), err)
	}
	if want := min(MaxBlock, r.Size()-int64(i)*MaxBlock); int64(len(data)) != want {
		return nil, fmt.Errorf("file %s, block %d: %d bytes instead of %d", r.file.Path, i, len(data), want)
	}
	r.remember(cached{i, data})
	return data, nil
}

func (r *Reader) cached(i int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, c := range r.cache {
		if c.data != nil && c.index == i {
			copy(r.cache[1:k+1], r.cache[:k])
			r.cache[0] = c
			return c.data
		}
	}
	return nil
}

func (r *Reader) remember(c cached) {
	r.mu.Lock()
	defer r.mu.Unlock()
	copy(r.cache[1:], r.cache[:])
	r.cache[0] = c
}

// Files opens the files of a manifest by path. It serves readers of model directories, such as safetensors.OpenSet.
type Files struct {
	ctx      context.Context
	from     Getter
	manifest *Manifest
}

// OpenFiles returns the files of m, read from g. ctx ends all reads.
func OpenFiles(ctx context.Context, g Getter, m *Manifest) *Files {
	return &Files{ctx: ctx, from: g, manifest: m}
}

// Open returns the file's bytes and size, or fs.ErrNotExist.
func (f *Files) Open(path string) (io.ReaderAt, int64, error) {
	file, ok := f.manifest.File(path)
	if !ok {
		return nil, 0, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	r := NewReader(f.ctx, f.from, file)
	return r, r.Size(), nil
}

// Paths lists the files, sorted.
func (f *Files) Paths() []string {
	paths := make([]string, len(f.manifest.Files))
	for i, file := range f.manifest.Files {
		paths[i] = file.Path
	}
	return paths
}
