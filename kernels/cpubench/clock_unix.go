//go:build unix

package cpubench

import (
	"time"

	"golang.org/x/sys/unix"
)

// processorTime is a clock of what the process has used.
func processorTime() func() time.Duration {
	return func() time.Duration {
		var u unix.Rusage
		if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
			return 0
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
}
