package cpu

import "math"

func rmsNorm(_ *Device, x *call) error {
	in := &x.t[2]
	x.rows(in.rows, in.cols, func(x *call, w *worker, i int) { x.rmsRow(w, i, 0, 1, 2, 3) })
	return nil
}

// addRMSNorm reads the sum as it was stored, so that its bits are those of an Add and a norm.
func addRMSNorm(_ *Device, x *call) error {
	sum := &x.t[0]
	x.rows(sum.rows, sum.cols, func(x *call, w *worker, i int) {
		x.addRow(w, i, 0, 3, 4)
		x.rmsRow(w, i, 1, 2, 0, 5)
	})
	return nil
}

// rmsRow normalises row i. Operands are named by their places in the command.
func (x *call) rmsRow(w *worker, i, y, stat, in, weight int) {
	n, eps, offset := x.t[in].cols, x.cmd.F[0], x.cmd.F[1]
	row, out := x.rowOf(w, in, i), x.rowOf(w, y, i)
	r := invRoot(w.dot(row, row), n, eps)
	x.t[stat].row(i)[0] = r
	w.set(r, offset)
	w.apply(&w.fam.normScale, n, out, row, x.t[weight].row(0))
	x.put(w, y, i, out)
}

// addRow is row i of dst = a + b, by their places.
func (x *call) addRow(w *worker, i, dst, a, b int) {
	out := x.rowOf(w, dst, i)
	w.apply(&w.fam.add, x.t[dst].cols, out, x.rowOf(w, a, i), x.rowOf(w, b, i))
	x.put(w, dst, i, out)
}

// invRoot is 1/√(sum/n + eps).
func invRoot(sum float32, n int, eps float32) float32 {
	return 1 / float32(math.Sqrt(float64(sum/float32(n)+eps)))
}

// rmsNormBack: with t = dy·(offset+w) and r = rstd, dx = r·t - x·(r³/C·Σ t·x) and dw = Σ over rows of dy·x·r. The sum
// for dw runs first: dx may take dy's place.
func rmsNormBack(d *Device, x *call) error {
	in := &x.t[3]
	if x.has(1) {
		x.strips(in.cols, func(x *call, w *worker, lo, hi int) {
			dw, rstd := &x.t[1], &x.t[5]
			for i := range x.t[3].rows {
				w.set(rstd.row(i)[0])
				w.apply(&w.fam.rmsWeight, hi-lo, dw.row(0)[lo:hi], x.get(w, 3, i, lo, hi), x.get(w, 2, i, lo, hi))
			}
		})
	}
	x.k = pick(x.cmd.I[0], &d.fam.rmsBack, &d.fam.rmsBackAdd)
	x.rows(in.rows, in.cols, func(x *call, w *worker, i int) {
		wt, rstd, offset, n := &x.t[4], &x.t[5], x.cmd.F[0], x.t[3].cols
		dx, dy, row := x.rowOf(w, 0, i), x.rowOf(w, 2, i), x.rowOf(w, 3, i)
		r := rstd.row(i)[0]
		w.set(offset)
		s := w.reduce(&w.fam.rmsDot, n, dy, row, wt.row(0))
		w.set(r, offset, float32(float32(float32(r*r)*r)*s)/float32(n))
		w.apply(x.k, n, dx, dy, row, wt.row(0))
		x.put(w, 0, i, dx)
	})
	return nil
}

func layerNorm(_ *Device, x *call) error {
	in := &x.t[2]
	x.rows(in.rows, in.cols, func(x *call, w *worker, i int) { x.layerRow(w, i, 0, 1, 2, 3) })
	return nil
}

func addLayerNorm(_ *Device, x *call) error {
	sum := &x.t[0]
	x.rows(sum.rows, sum.cols, func(x *call, w *worker, i int) {
		x.addRow(w, i, 0, 3, 4)
		x.layerRow(w, i, 1, 2, 0, 5)
	})
	return nil
}

// layerRow normalises row i. Operands are named by their places in the command; the bias, if any, is behind the weight.
func (x *call) layerRow(w *worker, i, y, stat, in, weight int) {
	n, st := x.t[in].cols, x.t[stat].row(i)
	out, src := x.rowOf(w, y, i), x.rowOf(w, in, i)
	row := w.scratch(scratchRow, 2*n)
	centered, b := row[:n], row[n:]
	if x.has(weight + 1) {
		b = x.t[weight+1].row(0)
	} else {
		clear(b)
	}
	mean := w.sum(src) / float32(n)
	w.set(mean, 1)
	w.apply(&w.fam.affine, n, centered, src)
	r := invRoot(w.dot(centered, centered), n, x.cmd.F[0])
	st[0], st[1] = mean, r
	w.set(mean, r)
	w.apply(&w.fam.normScaleBias, n, out, src, x.t[weight].row(0), b)
	x.put(w, y, i, out)
}

// layerNormBack: with t = dy·w and h = (x-mean)·rstd, dx = rstd·(t - mean(t) - h·mean(t·h)), dw = Σ dy·h, db = Σ dy. The
// sums over rows run first: dx may take dy's place.
func layerNormBack(d *Device, x *call) error {
	in := &x.t[4]
	x.strips(in.cols, func(x *call, w *worker, lo, hi int) {
		dw, db, rows, stat := &x.t[1], &x.t[2], x.t[4].rows, &x.t[6]
		for i := 0; i < rows && x.has(1); i++ {
			w.set(stat.row(i)...)
			w.apply(&w.fam.lnWeight, hi-lo, dw.row(0)[lo:hi], x.get(w, 4, i, lo, hi), x.get(w, 3, i, lo, hi))
		}
		for i := 0; i < rows && x.has(2); i++ {
			w.apply(&w.fam.add, hi-lo, db.row(0)[lo:hi], db.row(0)[lo:hi], x.get(w, 3, i, lo, hi))
		}
	})
	x.k = pick(x.cmd.I[0], &d.fam.lnBack, &d.fam.lnBackAdd)
	x.rows(in.rows, in.cols, func(x *call, w *worker, i int) {
		wt, stat, cols := &x.t[5], &x.t[6], x.t[4].cols
		row := w.scratch(scratchRow, 2*cols)
		t, h, n := row[:cols], row[cols:], float32(cols)
		w.apply(&w.fam.mul, cols, t, x.rowOf(w, 3, i), wt.row(0))
		w.set(stat.row(i)...)
		w.apply(&w.fam.affine, cols, h, x.rowOf(w, 4, i))
		w.set(w.sum(t)/n, w.dot(t, h)/n, stat.row(i)[1])
		dx := x.rowOf(w, 0, i)
		w.apply(x.k, cols, dx, t, h)
		x.put(w, 0, i, dx)
	})
	return nil
}
