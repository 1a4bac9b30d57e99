package cpu

import "math"

func rmsNorm(_ *Device, x *call) error {
	in := &x.t[2]
	x.rows(in.rows, in.cols, func(x *call, w *worker, i int) {
		rstd, in, wt, eps, offset := &x.t[1], &x.t[2], &x.t[3], x.cmd.F[0], x.cmd.F[1]
		row, out := x.rowOf(w, 2, i), x.rowOf(w, 0, i)
		r := invRoot(w.dot(row, row), in.cols, eps)
		rstd.row(i)[0] = r
		w.set(r, offset)
		w.apply(&w.fam.normScale, in.cols, out, row, wt.row(0))
		x.put(w, 0, i, out)
	})
	return nil
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
	x.rows(in.rows, in.cols, func(x *call, w *worker, i int) {
		stat, in, wt, eps := &x.t[1], &x.t[2], &x.t[3], x.cmd.F[0]
		out, src := x.rowOf(w, 0, i), x.rowOf(w, 2, i)
		row := w.scratch(scratchRow, 2*in.cols)
		centered, b := row[:in.cols], row[in.cols:]
		if x.has(4) {
			b = x.t[4].row(0)
		} else {
			clear(b)
		}
		mean := w.sum(src) / float32(in.cols)
		w.set(mean, 1)
		w.apply(&w.fam.affine, in.cols, centered, src)
		r := invRoot(w.dot(centered, centered), in.cols, eps)
		stat.row(i)[0], stat.row(i)[1] = mean, r
		w.set(mean, r)
		w.apply(&w.fam.normScaleBias, in.cols, out, src, wt.row(0), b)
		x.put(w, 0, i, out)
	})
	return nil
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
