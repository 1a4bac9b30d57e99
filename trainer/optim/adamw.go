// Package optim turns reduced gradients into new weights. An optimizer acts on segments of the job's index space; its
// arithmetic is the exact operation of the kernels, so every member that steps gets the same bits. What changes per step
// is computed here in float64, rounded once, and read by the kernel from device memory.
//
// Concurrency. An optimizer belongs to the goroutine of its stream.
package optim

import (
	"math"
	"strings"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// AdamW is Loshchilov and Hutter 2019 (arXiv:1711.05101).
type AdamW struct {
	Beta1, Beta2 float64
	Eps          float64
	WeightDecay  float64
	NoDecay      []string // kinds ("norm", "bias", "embedding") or parts of names whose weights do not decay
}

// HyperLen is the number of float32 that a step's numbers take on the device.
const HyperLen = 9

// Hyper is the numbers of step t (from 1) in the order of kernels.Stream.AdamW. clip multiplies the gradient.
func (a AdamW) Hyper(t uint64, lr, clip float64, decay bool) []float32 {
	keep := 1.0
	if decay {
		keep = 1 - lr*a.WeightDecay
	}
	c1, c2 := 1-math.Pow(a.Beta1, float64(t)), 1-math.Pow(a.Beta2, float64(t))
	h := [HyperLen]float64{clip, keep, a.Beta1, 1 - a.Beta1, a.Beta2, 1 - a.Beta2, math.Sqrt(c2), a.Eps, lr / c1}
	out := make([]float32, HyperLen)
	for i, x := range h {
		out[i] = float32(x)
	}
	return out
}

// Segment is a run [Lo, Hi) of the index space that is stepped with the same numbers.
type Segment struct {
	Lo, Hi int
	Decay  bool
}

// Segments joins neighbours of the same decay class. params are in the order of the index space.
func (a AdamW) Segments(params []*autograd.Param) []Segment {
	var segs []Segment
	for _, p := range params {
		decay := a.decays(p)
		if n := len(segs); n > 0 && segs[n-1].Hi == p.Off && segs[n-1].Decay == decay {
			segs[n-1].Hi += p.Len()
		} else {
			segs = append(segs, Segment{p.Off, p.Off + p.Len(), decay})
		}
	}
	return segs
}

// decays matches p against NoDecay: by what it is, or by a part of its name. GPT-2 calls its norms ln_1, so the kind
// has to decide there.
func (a AdamW) decays(p *autograd.Param) bool {
	for _, word := range a.NoDecay {
		if word == p.Kind.String() || word == "bias" && strings.HasSuffix(p.Name, ".bias") ||
			word != "" && strings.Contains(strings.ToLower(p.Name), strings.ToLower(word)) {
			return false
		}
	}
	return true
}

// Step updates w with gradient g and moments m and v, each (1, elements). decayed and plain are the step's numbers
// (1, HyperLen) for both decay classes.
func (a AdamW) Step(s *kernels.Stream, segs []Segment, w, g, m, v, decayed, plain kernels.Tensor) {
	for _, seg := range segs {
		cut := func(t kernels.Tensor) kernels.Tensor { return t.SliceCols(seg.Lo, seg.Hi) }
		h := plain
		if seg.Decay {
			h = decayed
		}
		s.AdamW(cut(w), cut(g), cut(m), cut(v), h)
	}
}

// Clip is the factor that brings a gradient of the given norm down to limit; 0 is no limit. The 1e-6 is PyTorch's.
func Clip(norm, limit float64) float64 {
	if limit == 0 {
		return 1
	}
	return min(1, limit/(norm+1e-6))
}
