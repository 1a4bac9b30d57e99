package optim

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// SGD is gradient descent with momentum as PyTorch has it, or without where Momentum is 0: no state at all. Weight decay
// is added to the gradient, after it was clipped.
type SGD struct {
	Momentum float64
	Nesterov bool
	Decay
}

func (g SGD) Grain(_, _ int) int { return 1 }

func (g SGD) Uses() (m, v bool) { return g.Momentum != 0, false }

func (g SGD) Open(s *kernels.Stream, params []*autograd.Param, elems int) (Optimizer, error) {
	return openFlat(s, g, params, elems)
}

func (g SGD) hyper(n Now, decays bool) []float64 {
	h := []float64{n.Clip, g.of(decays), n.LR}
	switch {
	case g.Momentum == 0:
		return h
	case g.Nesterov:
		return append(h, g.Momentum, 1, g.Momentum)
	}
	return append(h, g.Momentum, 0, 1)
}

func (g SGD) step(s *kernels.Stream, w, grad, m, _, hyper kernels.Tensor) { s.SGD(w, grad, m, hyper) }
