package cpu

// families lists what this processor runs, the fastest first. Every arm64 has NEON.
func families() []*family { return []*family{newNEON(), newGeneric()} }
