//go:build !race

package cpu

import "golang.org/x/sys/unix"

// useLargePages asks for them; a kernel that does not know the advice goes on with small ones.
func useLargePages(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }
