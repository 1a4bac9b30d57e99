package model

import (
	"math"
	"slices"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// Noise is what NEFTune adds to the embedding of each token in training: Alpha/√(L·d) times numbers drawn evenly from
// [-1, 1), where the token's sequence has L tokens of d channels (Jain et al. 2023, arXiv:2310.05914, algorithm 1).
//
// The numbers are a function of Seed, optimizer step, sample, token and channel, the same on every node:
//
//	key      = mix(mix(mix(Seed xor neftune) + step) + (sample·2^32 + token))
//	draw(k)  = mix(key + (k+1)·0x9e3779b97f4a7c15)
//	channels 2k and 2k+1 of the token get the upper and the lower 24 of draw(k)'s bits 16 to 63, as u·2^-23 - 1
//
// with the mix of splitmix64 (Steele, Lea and Flood 2014), in 64-bit unsigned arithmetic.
type Noise struct {
	Alpha float64 // 0: none
	Seed  uint64
}

const neftune = 0x6e656674756e65 // "neftune", so that other draws from Seed differ

// noisy adds the pass's noise to looked-up embeddings, before whatever else the model does with them.
func (c *Ctx) noisy(x autograd.Var) autograd.Var {
	if !c.Train || c.Noise.Alpha == 0 {
		return x
	}
	h := &c.laidOut
	h.noise = slices.Grow(h.noise[:0], x.T.Rows*x.T.Cols)[:x.T.Rows*x.T.Cols]
	h.draw(c.Noise, x.T.Cols)
	t := c.Alloc(x.T.Rows, x.T.Cols)
	c.S.Upload(t, h.noise)
	return c.Add(x, autograd.Var{T: t})
}

// draw fills noise for d channels. Rows that are no tokens get some too: the overlay overwrites them.
func (h *laidOut) draw(n Noise, d int) {
	pass := mix(mix(n.Seed^neftune) + h.step)
	for s, lo := range h.qStart[:len(h.qStart)-1] {
		hi := h.qStart[s+1]
		scale := float32(n.Alpha / math.Sqrt(float64(int(hi-lo)-h.rows)*float64(d)))
		for t := lo; t < hi; t++ {
			sample, token := uint64(uint32(h.key[2*t])), uint64(uint32(h.key[2*t+1]))
			fillEven(h.noise[int(t)*d:int(t+1)*d], mix(pass+(sample<<32+token)), scale)
		}
	}
}

// fillEven fills dst with scale times numbers from [-1, 1).
func fillEven(dst []float32, key uint64, scale float32) {
	const unit = 1.0 / (1 << 23)
	for i := range dst {
		if i%2 == 0 {
			key += 0x9e3779b97f4a7c15
			x := mix(key) >> 16
			dst[i] = scale * (float32(x>>24)*unit - 1)
			if i+1 < len(dst) {
				dst[i+1] = scale * (float32(x&(1<<24-1))*unit - 1)
			}
		}
	}
}

func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
