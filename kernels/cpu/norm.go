package cpu

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
)

func rmsNorm(d *Device, c *kernels.Cmd) error {
	y, rstd, x, wt := f32(c.T[0]), f32(c.T[1]), f32(c.T[2]), f32(c.T[3])
	eps, offset := c.F[0], c.F[1]
	d.rows(x.rows, x.cols, func(w *worker, i int) {
		r := invRoot(w.dot(x.row(i), x.row(i)), x.cols, eps)
		rstd.row(i)[0] = r
		w.set(r, offset)
		w.apply(&w.fam.normScale, x.cols, y.row(i), x.row(i), wt.row(0))
	})
	return nil
}

// invRoot is 1/√(sum/n + eps).
func invRoot(sum float32, n int, eps float32) float32 {
	return 1 / float32(math.Sqrt(float64(sum/float32(n)+eps)))
}

// rmsNormBack: with t = dy·(offset+w) and r = rstd, dx = r·t - x·(r³/C·Σ t·x) and dw = Σ over rows of dy·x·r. The sum
// for dw runs first: dx may take dy's place.
func rmsNormBack(d *Device, c *kernels.Cmd) error {
	dx, dw, dy, x, wt, rstd := f32(c.T[0]), f32(c.T[1]), f32(c.T[2]), f32(c.T[3]), f32(c.T[4]), f32(c.T[5])
	offset, k := c.F[0], pick(c.I[0], &d.fam.rmsBack, &d.fam.rmsBackAdd)
	if !c.T[1].None() {
		d.cols(x.cols, func(w *worker, lo, hi int) {
			for i := range x.rows {
				w.set(rstd.row(i)[0])
				w.apply(&w.fam.rmsWeight, hi-lo, dw.row(0)[lo:hi], x.row(i)[lo:hi], dy.row(i)[lo:hi])
			}
		})
	}
	d.rows(x.rows, x.cols, func(w *worker, i int) {
		r := rstd.row(i)[0]
		w.set(offset)
		s := w.reduce(&w.fam.rmsDot, x.cols, dy.row(i), x.row(i), wt.row(0))
		w.set(r, offset, float32(float32(float32(r*r)*r)*s)/float32(x.cols))
		w.apply(k, x.cols, dx.row(i), dy.row(i), x.row(i), wt.row(0))
	})
	return nil
}

func layerNorm(d *Device, c *kernels.Cmd) error {
	y, stat, x, wt, bias := f32(c.T[0]), f32(c.T[1]), f32(c.T[2]), f32(c.T[3]), f32(c.T[4])
	eps := c.F[0]
	d.rows(x.rows, x.cols, func(w *worker, i int) {
		row := w.scratch(scratchRow, 2*x.cols)
		centered, b := row[:x.cols], row[x.cols:]
		if c.T[4].None() {
			clear(b)
		} else {
			b = bias.row(0)
		}
		mean := w.sum(x.row(i)) / float32(x.cols)
		w.set(mean, 1)
		w.apply(&w.fam.affine, x.cols, centered, x.row(i))
		r := invRoot(w.dot(centered, centered), x.cols, eps)
		stat.row(i)[0], stat.row(i)[1] = mean, r
		w.set(mean, r)
		w.apply(&w.fam.normScaleBias, x.cols, y.row(i), x.row(i), wt.row(0), b)
	})
	return nil
}

// layerNormBack: with t = dy·w and h = (x-mean)·rstd, dx = rstd·(t - mean(t) - h·mean(t·h)), dw = Σ dy·h, db = Σ dy. The
// sums over rows run first: dx may take dy's place.
func layerNormBack(d *Device, c *kernels.Cmd) error {
	dx, dw, db, dy := f32(c.T[0]), f32(c.T[1]), f32(c.T[2]), f32(c.T[3])
	x, wt, stat := f32(c.T[4]), f32(c.T[5]), f32(c.T[6])
	d.cols(x.cols, func(w *worker, lo, hi int) {
		for i := 0; i < x.rows && !c.T[1].None(); i++ {
			w.set(stat.row(i)...)
			w.apply(&w.fam.lnWeight, hi-lo, dw.row(0)[lo:hi], x.row(i)[lo:hi], dy.row(i)[lo:hi])
		}
		for i := 0; i < x.rows && !c.T[2].None(); i++ {
			w.apply(&w.fam.add, hi-lo, db.row(0)[lo:hi], db.row(0)[lo:hi], dy.row(i)[lo:hi])
		}
	})
	k := pick(c.I[0], &d.fam.lnBack, &d.fam.lnBackAdd)
	d.rows(x.rows, x.cols, func(w *worker, i int) {
		row := w.scratch(scratchRow, 2*x.cols)
		t, h, n := row[:x.cols], row[x.cols:], float32(x.cols)
		w.apply(&w.fam.mul, x.cols, t, dy.row(i), wt.row(0))
		w.set(stat.row(i)...)
		w.apply(&w.fam.affine, x.cols, h, x.row(i))
		w.set(w.sum(t)/n, w.dot(t, h)/n, stat.row(i)[1])
		w.apply(k, x.cols, dx.row(i), t, h)
	})
	return nil
}
