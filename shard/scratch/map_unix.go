//go:build unix && !race

package scratch

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapFile maps a new file of so many bytes that has no name.
func mapFile(dir string, bytes int) (b []byte, err error) {
	f, err := os.CreateTemp(dir, "vector-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }() // the mapping stays
	if err := errors.Join(os.Remove(f.Name()), reserve(f, int64(bytes))); err != nil {
		return nil, err
	}
	p, err := unix.MmapPtr(int(f.Fd()), 0, nil, uintptr(bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), bytes), nil
}

// release gives the file up. The addresses stay taken, by pages that are zero and nowhere until somebody touches them: who comes
// late with an old slice, as a transfer that is just being given up may, does no harm.
func release(b []byte) error {
	_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b)), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED)
	return err
}

// fill takes room on the disk by writing zeros.
func fill(f *os.File, bytes int64) error {
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < bytes; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(bytes-at, int64(len(zeros)))], at); err != nil {
			return err
		}
	}
	return nil
}
