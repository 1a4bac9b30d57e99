package autograd

import "github.com/seed-7b27c88a/shoal/kernels"

// normBlock is how many weights are added up at a time: a block and its squares stay in a processor's cache.
const normBlock = 1 << 18 // elements

// RowSquares is, for each output of a linear layer, Σ (w + f·b·a)² over its inputs: (1, out). w is (out, in), or (in, out)
// with inOut; a (r, in) and b (out, r) are an adapter's. It is a constant to the tape. Sums run over the inputs in order,
// in float32.
func (t *Tape) RowSquares(w, a, b *Param, f float32, inOut bool) kernels.Tensor {
	wt, at, bt := t.W.Value(w), t.W.Value(a), t.W.Value(b)
	in, out := at.Cols, bt.Rows
	sum := t.Alloc(1, out)
	mark := t.arena.Mark()
	scaled, ones := t.Alloc(bt.Rows, bt.Cols), t.Alloc(1, in)
	t.S.Scale(scaled, bt, f, kernels.Set)
	t.S.Fill(ones, 1)
	step := max(1, normBlock/in)
	for lo := 0; lo < out; lo += step {
		hi := min(lo+step, out)
		inner := t.arena.Mark()
		if inOut {
			v := t.Alloc(in, hi-lo)
			t.S.Copy(v, wt.SliceCols(lo, hi))
			t.S.MatMul(v, at, scaled.SliceRows(lo, hi), kernels.MatMul{TA: true, TB: true, Mode: kernels.Add})
			t.S.Mul(v, v, v, kernels.Set)
			t.S.SumRows(sum.SliceCols(lo, hi), v, kernels.Set)
		} else {
			v := t.Alloc(hi-lo, in)
			t.S.Copy(v, wt.SliceRows(lo, hi))
			t.S.MatMul(v, scaled.SliceRows(lo, hi), at, kernels.MatMul{Mode: kernels.Add})
			t.S.Mul(v, v, v, kernels.Set)
			t.S.MatMul(sum.SliceCols(lo, hi), ones, v, kernels.MatMul{TB: true})
		}
		t.arena.Release(inner)
	}
	t.arena.Release(mark)
	return sum
}

// Magnitude is (x - bias)∘g + bias with g = mag/√squares (1, C), where squares is a constant; bias may be nil. It is the
// second half of DoRA (Liu et al. 2024, arXiv:2402.09353, eq. 5): x is what the weight before normalisation gives.
func (t *Tape) Magnitude(x Var, mag, bias *Param, squares kernels.Tensor) Var {
	g := t.Alloc(1, x.T.Cols)
	t.S.OverRoot(g, t.W.Value(mag), squares)
	y := t.result(x)
	t.S.Mul(y, x.T, g, kernels.Set)
	if bias != nil {
		t.addRow(y, t.biasLeft(bias, g))
	}
	return t.made(y, x.Wants() || t.trained(mag), (*Tape).magnitudeBack,
		kept{x: [3]Var{x}, w: mag, b: bias, t: [2]kernels.Tensor{g, squares}})
}

// biasLeft is bias - bias∘g: what of the bias the factor g took away.
func (t *Tape) biasLeft(bias *Param, g kernels.Tensor) kernels.Tensor {
	b, left := t.W.Value(bias), t.Alloc(1, g.Cols)
	t.S.Scale(left, g, -1, kernels.Set)
	t.S.Mul(left, left, b, kernels.Set)
	t.S.Add(left, left, b)
	return left
}

// addRow adds a row (1, C) to each row of y.
func (t *Tape) addRow(y, row kernels.Tensor) {
	ones := t.Alloc(y.Rows, 1)
	t.S.Fill(ones, 1)
	t.S.MatMul(y, ones, row, kernels.MatMul{Mode: kernels.Add})
}

func (t *Tape) magnitudeBack(n *node, dy kernels.Tensor) {
	x, g, squares := n.x[0], n.t[0], n.t[1]
	if t.trained(n.w) {
		mark := t.arena.Mark()
		dg, each := t.Alloc(1, g.Cols), t.Alloc(dy.Rows, dy.Cols)
		t.S.Mul(each, dy, x.T, kernels.Set)
		t.S.SumRows(dg, each, kernels.Set)
		if n.b != nil {
			sum := t.Alloc(1, g.Cols)
			t.S.SumRows(sum, dy, kernels.Set)
			t.S.Scale(sum, sum, -1, kernels.Set)
			t.S.Mul(dg, sum, t.W.Value(n.b), kernels.Add)
		}
		dmag := t.Alloc(1, g.Cols)
		t.S.OverRoot(dmag, dg, squares)
		grad, mode := t.GradOf(n.w)
		t.S.Scale(grad, dmag, 1, mode)
		t.arena.Release(mark)
	}
	if x.Wants() {
		dx, mode := t.dst(x)
		t.S.Mul(dx, dy, g, mode)
	}
}
