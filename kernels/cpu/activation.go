package cpu

import "math"

// The activations of adapters act on narrow matrices beside wide products: plain Go is fast enough for them.

func relu(_ *Device, x *call) error {
	x.eachRow(func(_ bool, y, in, _ []float32) {
		for j, v := range in {
			if v < 0 { // not NaN
				v = 0
			}
			y[j] = v
		}
	})
	return nil
}

func reluBack(_ *Device, x *call) error {
	x.eachRow(func(add bool, dx, dy, in []float32) {
		for j, v := range in {
			d := dy[j]
			if v <= 0 {
				d = 0
			}
			if add {
				d += dx[j]
			}
			dx[j] = d
		}
	})
	return nil
}

func tanh(_ *Device, x *call) error {
	x.eachRow(func(_ bool, y, in, _ []float32) {
		for j, v := range in {
			y[j] = float32(math.Tanh(float64(v)))
		}
	})
	return nil
}

func tanhBack(_ *Device, x *call) error {
	x.eachRow(func(add bool, dx, dy, y []float32) {
		for j, v := range y {
			d := float32(float64(dy[j]) * (1 - float64(v)*float64(v)))
			if add {
				d += dx[j]
			}
			dx[j] = d
		}
	})
	return nil
}

// overRoot: a float64 root of a float32 number, rounded to float32, is correctly rounded.
func overRoot(_ *Device, x *call) error {
	x.eachRow(func(_ bool, dst, a, v []float32) {
		for j, n := range a {
			if n != 0 {
				n /= float32(math.Sqrt(float64(v[j])))
			}
			dst[j] = n
		}
	})
	return nil
}

// eachRow runs f on the rows of the first three operands; the third may be missing. add: the mode at place 0.
func (x *call) eachRow(f func(add bool, out, a, b []float32)) {
	x.each = f
	x.rows(x.t[0].rows, x.t[0].cols, func(x *call, w *worker, i int) {
		out, a := x.rowOf(w, 0, i), x.rowOf(w, 1, i)
		b := a
		if x.has(2) {
			b = x.rowOf(w, 2, i)
		}
		x.each(x.adds(0), out, a, b)
		x.put(w, 0, i, out)
	})
}
