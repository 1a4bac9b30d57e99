//go:build !linux

package p2p

// setCongestion: other systems choose for themselves.
func setCongestion(uintptr, string) error { return nil }
