//go:build !unix || race

package cpu

import "unsafe"

// mapBytes takes heap memory: the race detector sees nothing else.
func mapBytes(n int) ([]byte, error) {
	b := make([]byte, n+63)
	skip := int(-uintptr(unsafe.Pointer(&b[0])) & 63)
	return b[skip : skip+n : skip+n], nil
}

// dropPages keeps the block and zeroes it.
func dropPages(b []byte) error {
	clear(b)
	return nil
}
