package cpu

import (
	"slices"

	"github.com/seed-7b27c88a/shoal/kernels"
)

// sumsOfSquares is how many of the first commands add sums of squares to one number: they may be taken together.
func sumsOfSquares(cmds []kernels.Cmd) int {
	n, dst := 0, &cmds[0].T[0]
	for ; n < len(cmds) && cmds[n].Op == kernels.OpSumSq; n++ {
		c := &cmds[n]
		if to := &c.T[0]; to.Buf != dst.Buf || to.Off != dst.Off || c.T[1].Buf == dst.Buf {
			break
		}
		if n > 0 && kernels.Mode(c.I[0]) != kernels.Add {
			break
		}
	}
	return n
}

// sumSqs takes such commands together: each is one worker's, for its order is a chain, and the sums are added in the
// order of the commands.
func (x *call) sumSqs(cmds []kernels.Cmd) {
	x.together, x.squares = cmds, slices.Grow(x.squares[:0], len(cmds))[:len(cmds)]
	x.tasks(len(cmds), func(x *call, w *worker, i int) { x.squares[i] = sumSqRows(w, f32(x.together[i].T[1])) })
	x.together = nil
	dst := f64(cmds[0].T[0])
	for i, s := range x.squares {
		if kernels.Mode(cmds[i].I[0]) == kernels.Add {
			s += dst.p[0]
		}
		dst.p[0] = s
	}
}

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
