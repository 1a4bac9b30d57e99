package optim

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// Sophia is Sophia-G, Liu et al. 2023 (arXiv:2305.14342), algorithm 3: momentum over an estimate of the diagonal of the
// curvature, of size at most LR in every element. Every Every steps, from the first on, the curvature is estimated
// anew: the gradient with labels that the model itself draws, squared (section 2.3).
type Sophia struct {
	Beta1, Beta2 float64
	Rho          float64
	Eps          float64
	Every        int
	Decay
}

// Curved is an optimizer that wants estimates of the curvature.
type Curved interface {
	Optimizer
	// Due reports whether step, from 1, begins with an estimate.
	Due(step uint64) bool
	// Curve takes one in, before the step: g is the mean gradient over so many tokens of the loss on drawn labels.
	Curve(g kernels.Tensor, tokens int64)
}

func (p Sophia) Grain(_, _ int) int { return 1 }

func (p Sophia) Uses() (m, v bool) { return true, true }

func (p Sophia) Open(s *kernels.Stream, params []*autograd.Param, elems int) (Optimizer, error) {
	f, err := newFlat(s, p, params, elems)
	if err != nil {
		return nil, err
	}
	c := &curved{flat: f, rule: p}
	if c.hyper, err = f.take(dtype.F32, 2); err != nil {
		f.Close()
		return nil, err
	}
	return c, nil
}

func (p Sophia) hyper(n Now, decays bool) []float64 {
	return []float64{n.Clip, 1 - n.LR*p.of(decays), p.Beta1, 1 - p.Beta1, n.LR, p.Rho, p.Eps}
}

func (p Sophia) step(s *kernels.Stream, w, g, m, v, hyper kernels.Tensor) {
	s.Sophia(w, g, m, v, hyper)
}

// curved is Sophia with its state; v is the curvature.
type curved struct {
	*flat
	rule  Sophia
	hyper kernels.Tensor
}

func (c *curved) CopyFrom(o Optimizer) { c.copyFrom(o.(*curved).flat) }

func (c *curved) Due(step uint64) bool { return (step-1)%uint64(c.rule.Every) == 0 }

func (c *curved) Curve(g kernels.Tensor, tokens int64) {
	if c.v.None() {
		return
	}
	b := c.rule.Beta2
	c.s.Upload(c.hyper, []float32{float32(b), float32((1 - b) * float64(tokens))})
	c.s.AverageSquares(c.v, g, c.hyper)
}
