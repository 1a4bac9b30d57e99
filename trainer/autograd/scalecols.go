package autograd

import "github.com/seed-7b27c88a/shoal/kernels"

// ScaleCols is x ∘ w, row by row: w is (1, C).
func (t *Tape) ScaleCols(x Var, w *Param) Var {
	y := t.result(x)
	t.S.Mul(y, x.T, t.W.Value(w), kernels.Set)
	return t.made(y, x.Wants() || t.trained(w), (*Tape).scaleColsBack, kept{x: [3]Var{x}, w: w})
}

func (t *Tape) scaleColsBack(n *node, dy kernels.Tensor) {
	x := n.x[0]
	if t.trained(n.w) {
		mark := t.arena.Mark()
		each := t.Alloc(dy.Rows, dy.Cols)
		t.S.Mul(each, dy, x.T, kernels.Set)
		g, mode := t.GradOf(n.w)
		t.S.SumRows(g, each, mode)
		t.arena.Release(mark)
	}
	if x.Wants() {
		dx, mode := t.dst(x)
		t.S.Mul(dx, dy, t.W.Value(n.w), mode)
	}
}
