package autograd

import "github.com/seed-7b27c88a/shoal/kernels"

// Rows are row indexes into a table together with the order that sorts them stably, so that the gradient of a table
// sums in one order.
type Rows struct{ IDs, Order kernels.Tensor } // I32 (N, 1)

// Gather looks up rows of a table: y (N, C).
func (t *Tape) Gather(table *Param, r Rows) Var {
	y := t.Alloc(r.IDs.Rows, table.Cols)
	t.S.GatherRows(y, t.W.Value(table), r.IDs)
	return t.made(y, t.trained(table), func(dy kernels.Tensor) {
		t.S.ScatterAddRows(t.gradOf(table), dy, r.IDs, r.Order)
	})
}

// Add is a + b.
func (t *Tape) Add(a, b Var) Var {
	y := t.Alloc(a.T.Rows, a.T.Cols)
	t.S.Add(y, a.T, b.T)
	return t.made(y, a.Wants() || b.Wants(), func(dy kernels.Tensor) {
		for _, v := range [2]Var{a, b} {
			if v.Wants() {
				d, mode := t.dst(v)
				t.S.Scale(d, dy, 1, mode)
			}
		}
	})
}

// Scale is f·x.
func (t *Tape) Scale(x Var, f float32) Var {
	y := t.Alloc(x.T.Rows, x.T.Cols)
	t.S.Scale(y, x.T, f, kernels.Set)
	return t.made(y, x.Wants(), func(dy kernels.Tensor) {
		d, mode := t.dst(x)
		t.S.Scale(d, dy, f, mode)
	})
}

// RMSNorm is x / rms(x) · w (Zhang and Sennrich 2019, arXiv:1910.07467).
func (t *Tape) RMSNorm(x Var, w *Param, eps float32) Var {
	y, rstd := t.Alloc(x.T.Rows, x.T.Cols), t.Alloc(x.T.Rows, 1)
	t.S.RMSNorm(y, rstd, x.T, t.W.Value(w), eps, 0)
	return t.made(y, x.Wants() || t.trained(w), func(dy kernels.Tensor) {
		dx, mode := t.dstOrScratch(x)
		t.S.RMSNormBack(dx, t.gradOf(w), dy, x.T, t.W.Value(w), rstd, 0, mode)
	})
}

// LayerNorm is (x - mean) / std · w + b (Ba et al. 2016, arXiv:1607.06450).
func (t *Tape) LayerNorm(x Var, w, b *Param, eps float32) Var {
	y, stat := t.Alloc(x.T.Rows, x.T.Cols), t.Alloc(x.T.Rows, 2)
	t.S.LayerNorm(y, stat, x.T, t.W.Value(w), t.valueOf(b), eps)
	return t.made(y, x.Wants() || t.trained(w) || t.trained(b), func(dy kernels.Tensor) {
		dx, mode := t.dstOrScratch(x)
		t.S.LayerNormBack(dx, t.gradOf(w), t.gradOf(b), dy, x.T, t.W.Value(w), stat, mode)
	})
}

// Rope rotates pairs (i, i+headDim/2) of each head by pos·freq (Su et al. 2021, arXiv:2104.09864).
func (t *Tape) Rope(x Var, pos, freq kernels.Tensor, heads, headDim int) Var {
	y := t.Alloc(x.T.Rows, x.T.Cols)
	o := kernels.Rope{HeadDim: headDim, Scale: 1}
	t.S.Rope(y, x.T, pos, freq, heads, o)
	return t.made(y, x.Wants(), func(dy kernels.Tensor) {
		back := o
		var dx kernels.Tensor
		dx, back.Mode = t.dst(x)
		back.Inverse = true
		t.S.Rope(dx, dy, pos, freq, heads, back)
	})
}

// SwiGLU is silu(gate)·up (Shazeer 2020, arXiv:2002.05202).
func (t *Tape) SwiGLU(gate, up Var) Var {
	y := t.Alloc(gate.T.Rows, gate.T.Cols)
	t.S.SwiGLU(y, gate.T, up.T)
	return t.made(y, gate.Wants() || up.Wants(), func(dy kernels.Tensor) {
		d, mode := t.together(gate, up)
		t.S.SwiGLUBack(d[0], d[1], dy, gate.T, up.T, mode)
	})
}

// GELU is the tanh form (Hendrycks and Gimpel 2016, arXiv:1606.08415).
func (t *Tape) GELU(x Var) Var {
	y := t.Alloc(x.T.Rows, x.T.Cols)
	t.S.GELU(y, x.T)
	return t.made(y, x.Wants(), func(dy kernels.Tensor) {
		dx, mode := t.dst(x)
		t.S.GELUBack(dx, dy, x.T, mode)
	})
}

// Attention is softmax(q·kᵀ·scale)·v per head, causal within each sequence.
func (t *Tape) Attention(q, k, v Var, spec kernels.AttnSpec) Var {
	o, lse := t.Alloc(q.T.Rows, q.T.Cols), t.Alloc(q.T.Rows, spec.Heads)
	t.S.Attention(o, lse, q.T, k.T, v.T, spec)
	return t.made(o, q.Wants() || k.Wants() || v.Wants(), func(do kernels.Tensor) {
		d, mode := t.together(q, k, v)
		t.S.AttentionBack(d[0], d[1], d[2], do, q.T, k.T, v.T, o, lse, spec, mode)
	})
}

// Drop keeps an element with probability 1-o.Rate and scales what it keeps; it draws by counters, so backward draws the
// same mask again.
func (t *Tape) Drop(x Var, o kernels.Dropout) Var {
	y := t.Alloc(x.T.Rows, x.T.Cols)
	t.S.Drop(y, x.T, o, kernels.Set)
	return t.made(y, x.Wants(), func(dy kernels.Tensor) {
		dx, mode := t.dst(x)
		t.S.Drop(dx, dy, o, mode)
	})
}

// Split cuts x by columns without copying. Nothing else may read x afterwards.
func (t *Tape) Split(x Var, widths ...int) []Var {
	vs := make([]Var, len(widths))
	lo := 0
	for i, w := range widths {
		vs[i] = Var{T: x.T.SliceCols(lo, lo+w)}
		if x.Wants() {
			vs[i].id = int32(len(t.grads))
			t.grads = append(t.grads, slot{parent: x, col: lo})
		}
		lo += w
	}
	if x.Wants() {
		t.nodes = append(t.nodes, node{0, func(kernels.Tensor) { t.joinColumns(x, vs) }})
	}
	return vs
}

// joinColumns completes the gradient of a split value: columns that nobody used get zero.
func (t *Tape) joinColumns(x Var, parts []Var) {
	used := false
	for _, p := range parts {
		used = used || t.grads[p.id].set
	}
	if !used {
		return
	}
	for _, p := range parts {
		if d, mode := t.dst(p); mode == kernels.Set {
			t.S.Fill(d, 0)
		}
	}
	t.grads[x.id].set = true
}

// together gives the gradients of several values one mode: where some were written before and others not, the others
// are cleared and all are added to.
func (t *Tape) together(vs ...Var) (d [3]kernels.Tensor, mode kernels.Mode) {
	var modes [3]kernels.Mode
	for i, v := range vs {
		d[i], modes[i] = t.dstOrScratch(v)
		mode = max(mode, modes[i])
	}
	for i := range vs {
		if modes[i] != mode {
			t.S.Fill(d[i], 0)
		}
	}
	return d, mode
}
