package autograd

import "github.com/seed-7b27c88a/shoal/kernels"

// AddRMSNorm is a + b, and RMSNorm of it, with the bits of Add and then RMSNorm: where a residual stream takes in one branch
// and the next one begins, memory is read once.
func (t *Tape) AddRMSNorm(a, b Var, w *Param, eps, shift float32) (sum, y Var) {
	if w.Cols != a.T.Cols { // groups of columns
		sum = t.Add(a, b)
		return sum, t.RMSNorm(sum, w, eps, shift)
	}
	s := t.sum(a, b)
	out, rstd := t.result(a), t.Alloc(a.T.Rows, 1)
	t.S.AddRMSNorm(s, out, rstd, a.T, b.T, t.W.Value(w), eps, shift)
	sum = t.added(s, a, b)
	return sum, t.made(out, sum.Wants() || t.trained(w), (*Tape).rmsNormBack, kept{x: [3]Var{sum}, w: w, t: [2]kernels.Tensor{rstd}, f: shift})
}

// AddLayerNorm is a + b, and LayerNorm of it, likewise.
func (t *Tape) AddLayerNorm(a, b Var, w, bias *Param, eps float32) (sum, y Var) {
	s := t.sum(a, b)
	out, stat := t.result(a), t.Alloc(a.T.Rows, 2)
	t.S.AddLayerNorm(s, out, stat, a.T, b.T, t.W.Value(w), t.valueOf(bias), eps)
	sum = t.added(s, a, b)
	return sum, t.made(out, sum.Wants() || t.trained(w) || t.trained(bias), (*Tape).layerNormBack,
		kept{x: [3]Var{sum}, w: w, b: bias, t: [2]kernels.Tensor{stat}})
}

// added is y as the sum of a and b.
func (t *Tape) added(y kernels.Tensor, a, b Var) Var {
	return t.made(y, a.Wants() || b.Wants(), (*Tape).addBack, kept{x: [3]Var{a, b}})
}
