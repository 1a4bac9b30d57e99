package peft

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// source is ChaCha8 keyed by seed and name: the same on every node, whatever else is drawn.
func source(seed uint64, name string) *rand.ChaCha8 {
	return rand.NewChaCha8(sha256.Sum256(binary.LittleEndian.AppendUint64([]byte("shoal lora init "+name+" "), seed)))
}

// uniform draws from [-bound, bound).
func uniform(dst []float32, seed uint64, name string, bound float64) {
	src := source(seed, name)
	for i := range dst {
		u := float64(src.Uint64()>>40) / (1 << 24) // 24 bits, [0, 1)
		dst[i] = float32((2*u - 1) * bound)
	}
}

// normal draws normal numbers with mean 0 by Box and Muller.
func normal(dst []float32, seed uint64, name string, std float64) {
	src := source(seed, name)
	for i := range dst {
		u1, u2 := (float64(src.Uint64()>>11)+1)/(1<<53), float64(src.Uint64()>>11)/(1<<53)
		dst[i] = float32(std * math.Sqrt(-2*math.Log(u1)) * math.Cos(2*math.Pi*u2))
	}
}

// draws are n of limit, with repetition.
func draws(n, limit int, seed uint64, name string) []int32 {
	src := source(seed, name)
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(src.Uint64() % uint64(limit))
	}
	return ids
}
