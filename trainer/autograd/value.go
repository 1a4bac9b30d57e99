package autograd

import "github.com/seed-7b27c88a/shoal/kernels"

// Value is p itself as a value on the tape, for operations that take no Param. Its gradient goes to p.
func (t *Tape) Value(p *Param) Var {
	return t.made(t.W.Value(p), t.trained(p), (*Tape).valueBack, kept{w: p})
}

func (t *Tape) valueBack(n *node, dy kernels.Tensor) {
	g, mode := t.GradOf(n.w)
	t.S.Scale(g, dy, 1, mode)
}
