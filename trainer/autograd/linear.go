package autograd

import "github.com/seed-7b27c88a/shoal/kernels"

// Linear is y (N, out) = x·Wᵀ + b with W (out, in), or x·W + b with W (in, out) where inOut is set, as GPT-2 stores it.
// b may be nil.
func (t *Tape) Linear(x Var, w, b *Param, inOut bool) Var {
	wt := t.Factor(w)
	y := t.arena.Tensor(Stored(t.Compute), x.T.Rows, outs(wt, inOut))
	t.S.MatMul(y, x.T, wt, kernels.MatMul{TB: !inOut, Bias: t.valueOf(b), Compute: t.Compute})
	return t.made(y, x.Wants() || t.trained(w) || t.trained(b), (*Tape).linearBack, kept{x: [3]Var{x}, w: w, b: b, inOut: inOut})
}

// AddLinear is y += x·Wᵀ in place: y's tensor must not have been read yet. It is how an adapter joins a linear layer
// without a second output.
func (t *Tape) AddLinear(y, x Var, w *Param) Var {
	t.S.MatMul(y.T, x.T, t.Factor(w), kernels.MatMul{TB: true, Mode: kernels.Add, Compute: t.Compute})
	k := kept{x: [3]Var{x}, w: w}
	if y.id == 0 {
		return t.made(y.T, x.Wants() || t.trained(w), (*Tape).linearBack, k)
	}
	t.nodes = append(t.nodes, node{y.id, (*Tape).linearBack, k}) // the sum has the gradient of each of its terms
	return y
}

func (t *Tape) linearBack(n *node, dy kernels.Tensor) {
	x, w, inOut := n.x[0], n.w, n.inOut
	if t.trained(n.b) {
		db, mode := t.GradOf(n.b)
		t.S.SumRows(db, dy, mode)
	}
	if x.Wants() {
		dx, mode := t.dst(x)
		t.S.MatMul(dx, dy, t.Factor(w), kernels.MatMul{TB: inOut, Mode: mode, Compute: t.Compute})
	}
	if !t.trained(w) {
		return
	}
	if dw, mode := t.GradOf(w); inOut {
		t.S.MatMul(dw, x.T, dy, kernels.MatMul{TA: true, Mode: mode, Compute: t.Compute})
	} else {
		t.S.MatMul(dw, dy, x.T, kernels.MatMul{TA: true, Mode: mode, Compute: t.Compute})
	}
}

func outs(w kernels.Tensor, inOut bool) int {
	if inOut {
		return w.Cols
	}
	return w.Rows
}
