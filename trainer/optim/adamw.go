package optim

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// AdamW is Loshchilov and Hutter 2019 (arXiv:1711.05101).
type AdamW struct {
	Beta1, Beta2 float64
	Eps          float64
	Decay
}

func (a AdamW) Grain(_, _ int) int { return 1 }

func (a AdamW) Uses() (m, v bool) { return true, true }

func (a AdamW) Open(s *kernels.Stream, params []*autograd.Param, elems int) (Optimizer, error) {
	return openFlat(s, a, params, elems)
}

// hyper is in the order of kernels.Stream.AdamW.
func (a AdamW) hyper(n Now, decays bool) []float64 {
	c1, c2 := 1-math.Pow(a.Beta1, float64(n.Step)), 1-math.Pow(a.Beta2, float64(n.Step))
	return []float64{n.Clip, 1 - n.LR*a.of(decays), a.Beta1, 1 - a.Beta1, a.Beta2, 1 - a.Beta2, math.Sqrt(c2), a.Eps, n.LR / c1}
}

func (a AdamW) step(s *kernels.Stream, w, g, m, v, hyper kernels.Tensor) { s.AdamW(w, g, m, v, hyper) }
