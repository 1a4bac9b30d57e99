package cpu

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
)

func rope(d *Device, c *kernels.Cmd) error {
	y, x, pos, freq := f32(c.T[0]), f32(c.T[1]), i32(c.T[2]), f32(c.T[3])
	heads, dim, inverse, mode := int(c.I[0]), int(c.I[1]), c.I[2] != 0, kernels.Mode(c.I[3])
	d.rows(x.rows, x.cols, func(w *worker, i int) {
		row := w.scratch(scratchRow, dim)
		cos, sin := row[:dim/2], row[dim/2:]
		angles(cos, sin, pos.row(i)[0], freq.row(0), c.F[0], inverse)
		for h := range heads {
			turn(y.row(i)[h*dim:(h+1)*dim], x.row(i)[h*dim:(h+1)*dim], cos, sin, mode)
		}
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
func turn(y, x, cos, sin []float32, mode kernels.Mode) {
	half := len(cos)
	for k := range half {
		a, b := x[k], x[k+half]
		p := float32(a*cos[k]) - float32(b*sin[k])
		q := float32(b*cos[k]) + float32(a*sin[k])
		if mode == kernels.Add {
			p, q = p+y[k], q+y[k+half]
		}
		y[k], y[k+half] = p, q
	}
}
