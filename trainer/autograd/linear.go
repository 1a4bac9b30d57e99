package autograd

import "github.com/seed-7b27c88a/shoal/kernels"

// Linear is y (N, out) = x·Wᵀ + b with W (out, in), or x·W + b with W (in, out) where inOut is set, as GPT-2 stores it.
// b may be nil.
func (t *Tape) Linear(x Var, w, b *Param, inOut bool) Var {
	wt := t.W.Value(w)
	y := t.Alloc(x.T.Rows, outs(wt, inOut))
	t.S.MatMul(y, x.T, wt, kernels.MatMul{TB: !inOut, Bias: t.valueOf(b)})
	return t.made(y, x.Wants() || t.trained(w) || t.trained(b), func(dy kernels.Tensor) {
		t.linearBack(x, w, dy, inOut)
		if t.trained(b) {
			t.S.SumRows(t.gradOf(b), dy, kernels.Add)
		}
	})
}

// AddLinear is y += x·Wᵀ in place: y's tensor must not have been read yet. It is how an adapter joins a linear layer
// without a second output.
func (t *Tape) AddLinear(y, x Var, w *Param) Var {
	t.S.MatMul(y.T, x.T, t.W.Value(w), kernels.MatMul{TB: true, Mode: kernels.Add})
	back := func(dy kernels.Tensor) { t.linearBack(x, w, dy, false) }
	if y.id == 0 {
		return t.made(y.T, x.Wants() || t.trained(w), back)
	}
	t.nodes = append(t.nodes, node{y.id, back}) // the sum has the gradient of each of its terms
	return y
}

func (t *Tape) linearBack(x Var, w *Param, dy kernels.Tensor, inOut bool) {
	if x.Wants() {
		dx, mode := t.dst(x)
		t.S.MatMul(dx, dy, t.W.Value(w), kernels.MatMul{TB: inOut, Mode: mode})
	}
	if !t.trained(w) {
		return
	}
	if dw := t.gradOf(w); inOut {
		t.S.MatMul(dw, x.T, dy, kernels.MatMul{TA: true, Mode: kernels.Add})
	} else {
		t.S.MatMul(dw, dy, x.T, kernels.MatMul{TA: true, Mode: kernels.Add})
	}
}

func outs(w kernels.Tensor, inOut bool) int {
	if inOut {
		return w.Cols
	}
	return w.Rows
}
