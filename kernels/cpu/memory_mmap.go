//go:build unix && !race

package cpu

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// mapBytes takes zeroed pages from the system, so that the garbage collector never sees tensors.
func mapBytes(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err == nil && n >= largePage {
		useLargePages(b)
	}
	return b, err
}

// largePage is the size of a block that is worth large pages: products walk columns of matrices, and each row of a wide
// one lies on another small page.
const largePage = 2 << 20

// dropPages gives the pages back; the block reads zeros afterwards.
func dropPages(b []byte) error {
	if err := unix.Madvise(b, unix.MADV_DONTNEED); err != nil || runtime.GOOS == "linux" {
		return err
	}
	clear(b) // elsewhere the advice promises nothing
	return nil
}
