package store

import (
	"os"
	"syscall"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// openPast opens a file so that what is read and written goes past the system's cache; nil where that cannot be, as in
// memory or on some file systems.
func openPast(fsys vfs.FS, path string, write bool) *os.File {
	if fsys != vfs.Default {
		return nil // of a test
	}
	mode := os.O_RDONLY
	if write {
		mode = os.O_WRONLY
	}
	f, err := os.OpenFile(path, mode|syscall.O_DIRECT, 0)
	if err != nil {
		return nil
	}
	return f
}

// fitsPast tells whether data may go past the cache: the disk moves whole sectors from and to whole sectors of memory.
func fitsPast(data []byte, offset int64) bool {
	return len(data) > 0 && len(data)%sector == 0 && offset%sector == 0 && uintptr(unsafe.Pointer(&data[0]))%sector == 0
}
