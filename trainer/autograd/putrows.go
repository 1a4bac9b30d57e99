package autograd

import "github.com/seed-7b27c88a/shoal/kernels"

// PutRows is x with rows of table in the places at (I32): r says which rows they are. It writes to x's tensor, which must
// not have been read yet.
func (t *Tape) PutRows(x Var, table *Param, r Rows, at kernels.Tensor) Var {
	src := t.Alloc(r.IDs.Rows, table.Cols)
	t.S.GatherRows(src, t.W.Value(table), r.IDs)
	t.S.CopyRows(x.T, src, at)
	return t.made(x.T, x.Wants() || t.trained(table), (*Tape).putRowsBack,
		kept{x: [3]Var{x, Const(at)}, w: table, t: [2]kernels.Tensor{r.IDs, r.Order}})
}

func (t *Tape) putRowsBack(n *node, dy kernels.Tensor) {
	x, at := n.x[0], n.x[1].T
	if t.trained(n.w) {
		mark := t.arena.Mark()
		d := t.Alloc(at.Rows, dy.Cols)
		t.S.GatherRows(d, dy, at)
		t.S.ScatterAddRows(t.sumOf(n.w), d, n.t[0], n.t[1])
		t.arena.Release(mark)
	}
	if !x.Wants() {
		return
	}
	dx, mode := t.dst(x)
	rest := t.Alloc(dy.Rows, dy.Cols)
	none := t.Alloc(at.Rows, dy.Cols)
	t.S.Fill(none, 0)
	t.S.Copy(rest, dy)
	t.S.CopyRows(rest, none, at)
	t.S.Scale(dx, rest, 1, mode)
}
