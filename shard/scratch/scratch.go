// Package scratch makes vectors of float32 that lie in files instead of memory: what is as large as a model's weights, is
// looked at once in a step, and is gone when the job ends. They are ordinary slices over mapped files, so whatever reads or writes
// a slice works on them, and the system drops their pages where memory is short.
//
// A file has no name any more when its vector is handed out: nothing is left behind, however the process ends. Its room on
// the disk is taken at once, so a full disk is an error of Vector and not a fault later. Where files cannot be mapped, and
// under the race detector, vectors are plain memory.
//
// Vectors are as long-lived as their Dir: Free makes one available again, and Close gives all of them up. Who touches one
// afterwards gets zeros, or memory that nobody else sees, but never a fault.
//
// Concurrency. A Dir is safe for concurrent use; a vector is its holder's.
package scratch

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"
)

// Small vectors are cut from slabs, a class of sizes each, so that thousands of them are few mappings.
const (
	small = 1 << 18  // elements, a whole chunk of an index space
	slab  = 32 << 20 // bytes
)

// Dir makes vectors whose files lie in one directory. A nil Dir makes vectors of plain memory.
type Dir struct {
	path string

	mu     sync.Mutex // guards the rest
	closed bool
	maps   [][]byte
	spare  map[int][][]float32 // by capacity
	bytes  int64               // of maps
}

// New is a Dir of the directory at path, which is made if it is not there. Close it in the end.
func New(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("room for vectors on disk: %w", err)
	}
	return &Dir{path: path, spare: map[int][][]float32{}}, nil
}

// Vector is room for n elements. Their values are undefined.
func (d *Dir) Vector(n int) ([]float32, error) {
	if d == nil || n == 0 {
		return make([]float32, n), nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errors.New("room for vectors on disk: it was closed")
	}
	size := class(n)
	if len(d.spare[size]) == 0 {
		if err := d.grow(size); err != nil {
			return nil, fmt.Errorf("room for %d MiB on disk in %s: %w", size>>18, d.path, err)
		}
	}
	all := d.spare[size]
	v := all[len(all)-1]
	d.spare[size] = all[:len(all)-1]
	return v[:n], nil
}

// class is the capacity of vectors of n elements: the next power of two among small ones, so that a slab serves many.
func class(n int) int {
	if n > small {
		return n
	}
	size := 1 << 10
	for size < n {
		size *= 2
	}
	return size
}

// grow maps one more file and cuts it up. Called with mu held.
func (d *Dir) grow(size int) error {
	bytes := 4 * size
	if size <= small {
		bytes = slab / (4 * small) * 4 * size // as many of each class
	}
	b, err := mapFile(d.path, bytes)
	if err != nil {
		return err
	}
	d.maps, d.bytes = append(d.maps, b), d.bytes+int64(bytes)
	v := unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), bytes/4)
	for ; len(v) > 0; v = v[size:] {
		d.spare[size] = append(d.spare[size], v[:size:size])
	}
	return nil
}

// Free makes a vector available again. Nobody may use it any more.
func (d *Dir) Free(v []float32) {
	if d == nil || cap(v) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed && cap(v) == class(cap(v)) {
		d.spare[cap(v)] = append(d.spare[cap(v)], v[:cap(v)])
	}
}

// Bytes is the room that is taken on the disk.
func (d *Dir) Bytes() int64 {
	if d == nil {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bytes
}

// Close gives up the files of all vectors, whoever still has one: what is in them is lost. It may be called again.
func (d *Dir) Close() (err error) {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.maps {
		err = errors.Join(err, release(b))
	}
	d.closed, d.maps, d.spare, d.bytes = true, nil, nil, 0
	return err
}
