package autograd

import "github.com/seed-7b27c88a/shoal/kernels"

// SiLU is x·sigmoid(x) (Elfwing et al. 2018, arXiv:1702.03118): SwiGLU with ones.
func (t *Tape) SiLU(x Var) Var {
	one := t.Alloc(x.T.Rows, x.T.Cols)
	t.S.Fill(one, 1)
	return t.SwiGLU(x, Const(one))
}

// ReLU is max(x, 0); its slope at 0 is 0.
func (t *Tape) ReLU(x Var) Var {
	y := t.result(x)
	t.S.ReLU(y, x.T)
	return t.made(y, x.Wants(), (*Tape).reluBack, kept{x: [3]Var{x}})
}

func (t *Tape) reluBack(n *node, dy kernels.Tensor) {
	dx, mode := t.dst(n.x[0])
	t.S.ReLUBack(dx, dy, n.x[0].T, mode)
}

// Tanh is the hyperbolic tangent.
func (t *Tape) Tanh(x Var) Var {
	y := t.result(x)
	t.S.Tanh(y, x.T)
	return t.made(y, x.Wants(), (*Tape).tanhBack, kept{x: [3]Var{x}, t: [2]kernels.Tensor{y}})
}

func (t *Tape) tanhBack(n *node, dy kernels.Tensor) {
	dx, mode := t.dst(n.x[0])
	t.S.TanhBack(dx, dy, n.t[0], mode)
}
