package cpu

import "github.com/seed-7b27c88a/shoal/kernels"

// sumSq keeps to one worker: the order is one chain per lane over the whole tensor.
func sumSq(d *Device, c *kernels.Cmd) error {
	dst, x := f64(c.T[0]), f32(c.T[1])
	w := d.pool.work[0]
	s := sumSqRows(w, x)
	if kernels.Mode(c.I[0]) == kernels.Add {
		s += dst.p[0]
	}
	dst.p[0] = s
	return nil
}

func sumSqRows(w *worker, x mat[float32]) float64 {
	w.args.sum = [lanes]float64{}
	if x.packed() {
		w.apply(&w.fam.sumSq, len(x.p), x.p)
	} else if x.cols%lanes == 0 {
		for i := range x.rows {
			w.apply(&w.fam.sumSq, x.cols, x.row(i))
		}
	} else {
		sumSqRagged(w, x)
	}
	l := w.args.sum
	for h := lanes / 2; h > 0; h /= 2 {
		for j := range h {
			l[j] += l[j+h]
		}
	}
	return l[0]
}

// sumSqRagged keeps the lane of an element right where rows end inside a group of lanes.
func sumSqRagged(w *worker, x mat[float32]) {
	n := 0
	for i := range x.rows {
		for _, v := range x.row(i) {
			w.args.sum[n%lanes] += float64(v) * float64(v)
			n++
		}
	}
}

func weightedSum(d *Device, c *kernels.Cmd) error {
	k := &d.fam.scale
	if kernels.Mode(c.I[0]) == kernels.Add {
		k = &d.fam.scaleAdd
	}
	dst, x, f := f32(c.T[0]), f32(c.T[1]), c.F[0]
	d.spread(dst.rows, dst.cols, func(w *worker, r span) {
		w.set(f)
		w.apply(k, r.n, r.of(dst), r.of(x))
	}, dst, x)
	return nil
}

func adamW(d *Device, c *kernels.Cmd) error {
	wt, g, m, v, h := f32(c.T[0]), f32(c.T[1]), f32(c.T[2]), f32(c.T[3]), f32(c.T[4])
	d.spread(wt.rows, wt.cols, func(w *worker, r span) {
		w.set(h.p...)
		w.apply(&w.fam.adamw, r.n, r.of(wt), r.of(m), r.of(v), r.of(g))
	}, wt, g, m, v)
	return nil
}
