package autograd

import "github.com/seed-7b27c88a/shoal/kernels"

// Rows are row indexes into a table together with the order that sorts them stably, so that the gradient of a table
// sums in one order.
type Rows struct{ IDs, Order kernels.Tensor } // I32 (N, 1)

// Gather looks up rows of a table: y (N, C).
func (t *Tape) Gather(table *Param, r Rows) Var {
	y := t.Alloc(r.IDs.Rows, table.Cols)
	t.S.GatherRows(y, t.Factor(table), r.IDs)
	return t.made(y, t.trained(table), (*Tape).gatherBack, kept{w: table, t: [2]kernels.Tensor{r.IDs, r.Order}})
}

func (t *Tape) gatherBack(n *node, dy kernels.Tensor) {
	t.S.ScatterAddRows(t.sumOf(n.w), dy, n.t[0], n.t[1])
}

// Add is a + b.
func (t *Tape) Add(a, b Var) Var {
	y := t.sum(a, b)
	t.S.Add(y, a.T, b.T)
	return t.added(y, a, b)
}

func (t *Tape) addBack(n *node, dy kernels.Tensor) {
	for i, v := range n.x[:2] {
		if !v.Wants() || i == 1 && t.handOn(v, dy) {
			continue
		}
		d, mode := t.dst(v)
		t.S.Scale(d, dy, 1, mode)
	}
}

// handOn makes dy, which nobody reads any more, the gradient of v where v has none yet and dy lives long enough.
func (t *Tape) handOn(v Var, dy kernels.Tensor) bool {
	s := &t.grads[v.id]
	if s.t.Buf != nil || s.parent.Wants() || v.id < t.first || dy.Type != v.T.Type {
		return false
	}
	s.t, s.set = dy, true
	return true
}

// Scale is f·x.
func (t *Tape) Scale(x Var, f float32) Var {
	y := t.sum(x, x)
	t.S.Scale(y, x.T, f, kernels.Set)
	return t.made(y, x.Wants(), (*Tape).scaleBack, kept{x: [3]Var{x}, f: f})
}

func (t *Tape) scaleBack(n *node, dy kernels.Tensor) {
	d, mode := t.dst(n.x[0])
	t.S.Scale(d, dy, n.f, mode)
}

// Mul is a·b, element by element.
func (t *Tape) Mul(a, b Var) Var {
	y := t.sum(a, b)
	t.S.Mul(y, a.T, b.T, kernels.Set)
	return t.made(y, a.Wants() || b.Wants(), (*Tape).mulBack, kept{x: [3]Var{a, b}})
}

func (t *Tape) mulBack(n *node, dy kernels.Tensor) {
	a, b := n.x[0], n.x[1]
	if a.Wants() {
		d, mode := t.dst(a)
		t.S.Mul(d, dy, b.T, mode)
	}
	if b.Wants() {
		d, mode := t.dst(b)
		t.S.Mul(d, dy, a.T, mode)
	}
}

// RMSNorm is x / rms(x) · (shift+w) (Zhang and Sennrich 2019, arXiv:1910.07467); shift is 0, or 1 for models that store
// w-1. Where w is narrower than x, each group of columns as wide as w is normalised by itself, as the heads of queries
// and keys are.
func (t *Tape) RMSNorm(x Var, w *Param, eps, shift float32) Var {
	y, rstd := t.result(x), t.Alloc(x.T.Rows, x.T.Cols/w.Cols)
	parts := groups(w, x.T)
	for g := range parts {
		t.S.RMSNorm(group(y, w.Cols, g, parts), group(rstd, 1, g, parts), group(x.T, w.Cols, g, parts), t.W.Value(w), eps, shift)
	}
	return t.made(y, x.Wants() || t.trained(w), (*Tape).rmsNormBack, kept{x: [3]Var{x}, w: w, t: [2]kernels.Tensor{rstd}, f: shift})
}

func (t *Tape) rmsNormBack(n *node, dy kernels.Tensor) {
	x, w, rstd := n.x[0], n.w, n.t[0]
	dx, mode := t.dstOrScratch(x)
	dw, parts := t.sumOf(w), groups(w, x.T)
	for g := range parts {
		t.S.RMSNormBack(group(dx, w.Cols, g, parts), dw, group(dy, w.Cols, g, parts), group(x.T, w.Cols, g, parts),
			t.W.Value(w), group(rstd, 1, g, parts), n.f, mode)
	}
}

// groups is in how many parts w normalises x: one, with all groups as rows, where x's rows follow each other without
// gaps, else one for each group.
func groups(w *Param, x kernels.Tensor) int {
	if x.Packed() {
		return 1
	}
	return x.Cols / w.Cols
}

// group is part g of parts of a tensor whose groups are width columns wide.
func group(x kernels.Tensor, width, g, parts int) kernels.Tensor {
	if parts == 1 && width != x.Cols {
		return x.Reshape(x.Len()/width, width)
	}
	return x.SliceCols(g*width, (g+1)*width)
}

// LayerNorm is (x - mean) / std · w + b (Ba et al. 2016, arXiv:1607.06450).
func (t *Tape) LayerNorm(x Var, w, b *Param, eps float32) Var {
	y, stat := t.result(x), t.Alloc(x.T.Rows, 2)
	t.S.LayerNorm(y, stat, x.T, t.W.Value(w), t.valueOf(b), eps)
	return t.made(y, x.Wants() || t.trained(w) || t.trained(b), (*Tape).layerNormBack,
		kept{x: [3]Var{x}, w: w, b: b, t: [2]kernels.Tensor{stat}})
}

func (t *Tape) layerNormBack(n *node, dy kernels.Tensor) {
	x, stat := n.x[0], n.t[0]
	dx, mode := t.dstOrScratch(x)
	t.S.LayerNormBack(dx, t.sumOf(n.w), t.sumOf(n.b), dy, x.T, t.W.Value(n.w), stat, mode)
}

// Rope rotates pairs (i, i+headDim/2) of each head by pos·freq (Su et al. 2021, arXiv:2104.09864).
// scale is 1, or the factor that some rotations stretch the result by.
func (t *Tape) Rope(x Var, pos, freq kernels.Tensor, heads, headDim int, scale float32) Var {
	y := t.result(x)
	o := kernels.Rope{HeadDim: headDim, Scale: scale}
	t.S.Rope(y, x.T, pos, freq, heads, o)
	return t.made(y, x.Wants(), (*Tape).ropeBack, kept{x: [3]Var{x}, t: [2]kernels.Tensor{pos, freq}, rope: o})
}

func (t *Tape) ropeBack(n *node, dy kernels.Tensor) {
	dx, mode := t.dst(n.x[0])
	o := n.rope
	o.Inverse, o.Mode = true, mode
	t.S.Rope(dx, dy, n.t[0], n.t[1], dx.Cols/o.HeadDim, o)
}

// SwiGLU is silu(gate)·up (Shazeer 2020, arXiv:2002.05202).
func (t *Tape) SwiGLU(gate, up Var) Var {
	y := t.result(gate)
	t.S.SwiGLU(y, gate.T, up.T)
	return t.made(y, gate.Wants() || up.Wants(), (*Tape).swiGLUBack, kept{x: [3]Var{gate, up}})
}

func (t *Tape) swiGLUBack(n *node, dy kernels.Tensor) {
	d, mode := t.together(n.x[:2])
	t.S.SwiGLUBack(d[0], d[1], dy, n.x[0].T, n.x[1].T, mode)
}

// GELU is the tanh form (Hendrycks and Gimpel 2016, arXiv:1606.08415).
func (t *Tape) GELU(x Var) Var {
	y := t.result(x)
	t.S.GELU(y, x.T)
	return t.made(y, x.Wants(), (*Tape).geluBack, kept{x: [3]Var{x}})
}

func (t *Tape) geluBack(n *node, dy kernels.Tensor) {
	dx, mode := t.dst(n.x[0])
	t.S.GELUBack(dx, dy, n.x[0].T, mode)
}

// Attention is softmax(q·kᵀ·scale)·v per head, causal within each sequence.
func (t *Tape) Attention(q, k, v Var, spec kernels.AttnSpec) Var {
	spec.Compute = t.Compute
	o, lse := t.result(q), t.Alloc(q.T.Rows, spec.Heads)
	t.S.Attention(o, lse, q.T, k.T, v.T, spec)
	return t.made(o, q.Wants() || k.Wants() || v.Wants(), (*Tape).attentionBack,
		kept{x: [3]Var{q, k, v}, t: [2]kernels.Tensor{o, lse}, attn: spec})
}

func (t *Tape) attentionBack(n *node, do kernels.Tensor) {
	q, k, v := n.x[0], n.x[1], n.x[2]
	o, lse := n.t[0], n.t[1]
	d, mode := t.together(n.x[:])
	t.S.AttentionBack(d[0], d[1], d[2], do, q.T, k.T, v.T, o, lse, n.attn, mode)
}

// Drop keeps an element with probability 1-o.Rate and scales what it keeps; it draws by counters, so backward draws the
// same mask again.
func (t *Tape) Drop(x Var, o kernels.Dropout) Var {
	y := t.sum(x, x)
	t.S.Drop(y, x.T, o, kernels.Set)
	return t.made(y, x.Wants(), (*Tape).dropBack, kept{x: [3]Var{x}, drop: o})
}

func (t *Tape) dropBack(n *node, dy kernels.Tensor) {
	dx, mode := t.dst(n.x[0])
	t.S.Drop(dx, dy, n.drop, mode)
}

// Split cuts x by columns without copying. Nothing else may read x afterwards.
func (t *Tape) Split(x Var, widths ...int) []Var {
	vs := t.vars(len(widths))
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
		t.nodes = append(t.nodes, node{0, (*Tape).splitBack, kept{x: [3]Var{x}, cols: vs}})
	}
	return vs
}

// splitBack completes the gradient of a split value: columns that nobody used get zero.
func (t *Tape) splitBack(n *node, _ kernels.Tensor) {
	used := false
	for _, p := range n.cols {
		used = used || t.grads[p.id].set
	}
	if !used {
		return
	}
	for _, p := range n.cols {
		if d, mode := t.dst(p); mode == kernels.Set {
			t.S.Fill(d, 0)
		}
	}
	t.grads[n.x[0].id].set = true
}

// together gives the gradients of several values one mode: where some were written before and others not, the others
// are cleared and all are added to.
func (t *Tape) together(vs []Var) (d [3]kernels.Tensor, mode kernels.Mode) {
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
