//go:build unix && !linux && !race

package cpu

// useLargePages has nobody to ask.
func useLargePages([]byte) {}
