package cpu

import "math"

func rope(_ *Device, x *call) error {
	x.rows(x.t[1].rows, x.t[1].cols, func(x *call, w *worker, i int) {
		heads, dim, inverse := int(x.cmd.I[0]), int(x.cmd.I[1]), x.cmd.I[2] != 0
		row := w.scratch(scratchRow, dim)
		cos, sin := row[:dim/2], row[dim/2:]
		angles(cos, sin, x.number(2, i), x.t[3].row(0), x.cmd.F[0], inverse)
		y, in := x.rowOf(w, 0, i), x.rowOf(w, 1, i)
		for h := range heads {
			turn(y[h*dim:(h+1)*dim], in[h*dim:(h+1)*dim], cos, sin, x.adds(3))
		}
		x.put(w, 0, i, y)
	})
	return nil
}

// angles fills the cosines and sines of pos·freq, computed in double precision: float32 angles of far positions are
// off by more than the model can bear.
func angles(cos, sin []float32, pos int32, freq []float32, scale float32, inverse bool) {
	for k, f := range freq {
		s, c := math.Sincos(float64(pos) * float64(f))
		if inverse {
			s = -s
		}
		cos[k], sin[k] = float32(c*float64(scale)), float32(s*float64(scale))
	}
}

// turn rotates one head's pairs (i, i+half).
func turn(y, x, cos, sin []float32, adding bool) {
	half := len(cos)
	for k := range half {
		a, b := x[k], x[k+half]
		p := float32(a*cos[k]) - float32(b*sin[k])
		q := float32(b*cos[k]) + float32(a*sin[k])
		if adding {
			p, q = p+y[k], q+y[k+half]
		}
		y[k], y[k+half] = p, q
	}
}
