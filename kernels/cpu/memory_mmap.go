//go:build unix && !race

package cpu

import "golang.org/x/sys/unix"

// mapBytes takes zeroed pages from the system, so that the garbage collector never sees tensors.
func mapBytes(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

func dropPages(b []byte) error { return unix.Madvise(b, unix.MADV_DONTNEED) }
