//go:build !amd64 && !arm64

package cpu

// families lists what this processor runs, the fastest first.
func families() []*family { return []*family{newGeneric()} }
