package cpu

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

func add(d *Device, x *call) error {
	x.elementwise(&d.fam.add, 0, 1, 2)
	return nil
}

func scale(d *Device, x *call) error {
	x.elementwise(pick(x.cmd.I[0], &d.fam.scale, &d.fam.axpy), 0, 1)
	return nil
}

func mul(d *Device, x *call) error {
	k := pick(x.cmd.I[0], &d.fam.mul, &d.fam.mulAdd)
	if x.t[2].rows == x.t[1].rows {
		x.elementwise(k, 0, 1, 2)
		return nil
	}
	x.k = k
	x.rows(x.t[0].rows, x.t[0].cols, func(x *call, w *worker, i int) {
		out := x.rowOf(w, 0, i)
		w.apply(x.k, x.t[0].cols, out, x.rowOf(w, 1, i), x.rowOf(w, 2, 0))
		x.put(w, 0, i, out)
	})
	return nil
}

func sumRows(_ *Device, x *call) error {
	x.strips(x.t[0].cols, func(x *call, w *worker, lo, hi int) {
		out := x.t[0].row(0)[lo:hi]
		if !x.adds(0) {
			clear(out)
		}
		for i := range x.t[1].rows {
			w.apply(&w.fam.add, hi-lo, out, out, x.get(w, 1, i, lo, hi))
		}
	})
	return nil
}

func swiGLU(d *Device, x *call) error {
	x.elementwise(&d.fam.swiglu, 0, 1, 2)
	return nil
}

func swiGLUBack(d *Device, x *call) error {
	x.elementwise(pick(x.cmd.I[0], &d.fam.swigluBack, &d.fam.swigluBackAdd), 0, 1, 2, 3, 4)
	return nil
}

func gelu(d *Device, x *call) error {
	x.elementwise(&d.fam.gelu, 0, 1)
	return nil
}

func geluBack(d *Device, x *call) error {
	x.elementwise(pick(x.cmd.I[0], &d.fam.geluBack, &d.fam.geluBackAdd), 0, 1, 2)
	return nil
}

func pick(mode int32, set, add *kernel) *kernel {
	if kernels.Mode(mode) == kernels.Add {
		return add
	}
	return set
}

// fill writes float32 a span at a time, and the other plain types one element after the other.
func fill(_ *Device, x *call) error {
	dst := x.cmd.T[0]
	if dst.Type == dtype.F32 {
		x.spans(dst.Rows, dst.Cols, dst.Packed(), func(x *call, _ *worker, s span) {
			to := s.of(x.t[0].mat)
			for i := range to {
				to[i] = x.cmd.F[0]
			}
		})
		return nil
	}
	x.rows(dst.Rows, dst.Cols, func(x *call, _ *worker, i int) {
		put := writer(x.cmd.T[0], i)
		for j := range x.cmd.T[0].Cols {
			put(j, float64(x.cmd.F[0]))
		}
	})
	return nil
}

// convert has vector code for float32 and bfloat16; the other types are not hot.
func convert(_ *Device, x *call) error {
	dst, src := x.cmd.T[0], x.cmd.T[1]
	var task func(x *call, w *worker, s span)
	switch {
	case dst.Type == dtype.F32 && src.Type == dtype.F32:
		task = func(x *call, _ *worker, s span) { copy(s.of(x.t[0].mat), s.of(x.t[1].mat)) }
	case dst.Type == dtype.BF16 && src.Type == dtype.F32:
		task = func(x *call, w *worker, s span) {
			to := view[uint16](x.cmd.T[0], dtype.BF16)
			w.narrow(to.p[s.at(to.ld):], s.of(x.t[1].mat))
		}
	case dst.Type == dtype.F32 && src.Type == dtype.BF16:
		task = func(x *call, w *worker, s span) {
			from := view[uint16](x.cmd.T[1], dtype.BF16)
			w.widen(s.of(x.t[0].mat), from.p[s.at(from.ld):][:s.n])
		}
	default:
		x.rows(dst.Rows, dst.Cols, func(x *call, _ *worker, i int) {
			put, get := writer(x.cmd.T[0], i), reader(x.cmd.T[1], i)
			for j := range x.cmd.T[0].Cols {
				put(j, get(j))
			}
		})
		return nil
	}
	x.spans(dst.Rows, dst.Cols, dst.Packed() && src.Packed(), task)
	return nil
}

// reader gives the elements of row i of t; every plain type is exact in float64.
func reader(t kernels.Tensor, i int) func(j int) float64 {
	t = t.SliceRows(i, i+1)
	switch t.Type {
	case dtype.F32:
		x := f32(t).p
		return func(j int) float64 { return float64(x[j]) }
	case dtype.BF16:
		x := view[uint16](t, dtype.BF16).p
		return func(j int) float64 { return float64(dtype.FromBF16(x[j])) }
	case dtype.F16:
		x := view[uint16](t, dtype.F16).p
		return func(j int) float64 { return float64(dtype.FromF16(x[j])) }
	case dtype.I32:
		x := i32(t).p
		return func(j int) float64 { return float64(x[j]) }
	default:
		x := f64(t).p
		return func(j int) float64 { return x[j] }
	}
}

// writer stores into row i of t, rounding to the type: to nearest even, and for I32 toward zero within its range.
func writer(t kernels.Tensor, i int) func(j int, v float64) {
	t = t.SliceRows(i, i+1)
	switch t.Type {
	case dtype.F32:
		x := f32(t).p
		return func(j int, v float64) { x[j] = float32(v) }
	case dtype.BF16:
		x := view[uint16](t, dtype.BF16).p
		return func(j int, v float64) { x[j] = dtype.ToBF16(float32(v)) }
	case dtype.F16:
		x := view[uint16](t, dtype.F16).p
		return func(j int, v float64) { x[j] = dtype.ToF16(float32(v)) }
	case dtype.I32:
		x := i32(t).p
		return func(j int, v float64) { x[j] = int32(max(math.MinInt32, min(v, math.MaxInt32))) }
	default:
		x := f64(t).p
		return func(j int, v float64) { x[j] = v }
	}
}
