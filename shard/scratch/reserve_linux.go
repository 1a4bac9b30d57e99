//go:build !race

package scratch

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserve takes room on the disk for so many bytes.
func reserve(f *os.File, bytes int64) error {
	for {
		switch err := unix.Fallocate(int(f.Fd()), 0, 0, bytes); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return fill(f, bytes)
		default:
			return err
		}
	}
}
