package optim

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// Lion is Chen et al. 2023 (arXiv:2302.06675): half the state of AdamW, and steps of one size in every element. Its
// learning rates are 3 to 10 times below AdamW's, its weight decay as much above.
type Lion struct {
	Beta1, Beta2 float64
	Decay
}

func (l Lion) Grain(_, _ int) int { return 1 }

func (l Lion) Uses() (m, v bool) { return true, false }

func (l Lion) Open(s *kernels.Stream, params []*autograd.Param, elems int) (Optimizer, error) {
	return openFlat(s, l, params, elems)
}

func (l Lion) hyper(n Now, decays bool) []float64 {
	return []float64{n.Clip, 1 - n.LR*l.of(decays), l.Beta1, 1 - l.Beta1, l.Beta2, 1 - l.Beta2, n.LR}
}

func (l Lion) step(s *kernels.Stream, w, g, m, _, hyper kernels.Tensor) { s.Lion(w, g, m, hyper) }
