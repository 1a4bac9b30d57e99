//go:build unix && !linux && !race

package scratch

import "os"

// reserve takes room on the disk for so many bytes.
func reserve(f *os.File, bytes int64) error { return fill(f, bytes) }
