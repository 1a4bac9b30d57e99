package cpu

// sumSq keeps to one worker: the order is one chain per lane over the whole tensor.
func sumSq(d *Device, x *call) error {
	dst := f64(x.cmd.T[0])
	s := sumSqRows(d.pool.work[0], x.t[1].mat)
	if x.adds(0) {
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

func weightedSum(d *Device, x *call) error {
	x.elementwise(pick(x.cmd.I[0], &d.fam.scale, &d.fam.scaleAdd), 0, 1)
	return nil
}

func quotient(d *Device, x *call) error {
	x.elementwise(&d.fam.quotient, 0, 1)
	return nil
}

func adamW(_ *Device, x *call) error {
	flat := true
	for _, m := range x.t[:4] {
		flat = flat && m.packed()
	}
	x.spans(x.t[0].rows, x.t[0].cols, flat, func(x *call, w *worker, s span) {
		w.set(x.t[4].p...)
		w.apply(&w.fam.adamw, s.n, s.of(x.t[0].mat), s.of(x.t[2].mat), s.of(x.t[3].mat), s.of(x.t[1].mat))
	})
	return nil
}
