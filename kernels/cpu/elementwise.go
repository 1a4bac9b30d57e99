package cpu

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

func add(d *Device, c *kernels.Cmd) error {
	return elementwise(d, &d.fam.add, f32(c.T[0]), f32(c.T[1]), f32(c.T[2]))
}

func scale(d *Device, c *kernels.Cmd) error {
	k := pick(c.I[0], &d.fam.scale, &d.fam.axpy)
	dst, src, f := f32(c.T[0]), f32(c.T[1]), c.F[0]
	d.spread(dst.rows, dst.cols, func(w *worker, r span) {
		w.set(f)
		w.apply(k, r.n, r.of(dst), r.of(src))
	}, dst, src)
	return nil
}

func mul(d *Device, c *kernels.Cmd) error {
	k := pick(c.I[0], &d.fam.mul, &d.fam.mulAdd)
	dst, a, b := f32(c.T[0]), f32(c.T[1]), f32(c.T[2])
	if b.rows == a.rows {
		return elementwise(d, k, dst, a, b)
	}
	d.rows(dst.rows, dst.cols, func(w *worker, i int) {
		w.apply(k, dst.cols, dst.row(i), a.row(i), b.row(0))
	})
	return nil
}

func sumRows(d *Device, c *kernels.Cmd) error {
	dst, x := f32(c.T[0]), f32(c.T[1])
	set := kernels.Mode(c.I[0]) == kernels.Set
	d.cols(dst.cols, func(w *worker, lo, hi int) {
		out := dst.row(0)[lo:hi]
		if set {
			clear(out)
		}
		for i := range x.rows {
			w.apply(&w.fam.add, hi-lo, out, out, x.row(i)[lo:hi])
		}
	})
	return nil
}

func swiGLU(d *Device, c *kernels.Cmd) error {
	return elementwise(d, &d.fam.swiglu, f32(c.T[0]), f32(c.T[1]), f32(c.T[2]))
}

func swiGLUBack(d *Device, c *kernels.Cmd) error {
	k := pick(c.I[0], &d.fam.swigluBack, &d.fam.swigluBackAdd)
	return elementwise(d, k, f32(c.T[0]), f32(c.T[1]), f32(c.T[2]), f32(c.T[3]), f32(c.T[4]))
}

func gelu(d *Device, c *kernels.Cmd) error {
	return elementwise(d, &d.fam.gelu, f32(c.T[0]), f32(c.T[1]))
}

func geluBack(d *Device, c *kernels.Cmd) error {
	k := pick(c.I[0], &d.fam.geluBack, &d.fam.geluBackAdd)
	return elementwise(d, k, f32(c.T[0]), f32(c.T[1]), f32(c.T[2]))
}

// elementwise applies a kernel without scalars to matrices of one shape.
func elementwise(d *Device, k *kernel, ms ...mat[float32]) error {
	d.spread(ms[0].rows, ms[0].cols, func(w *worker, r span) {
		var xs [maxOperands][]float32
		for i, m := range ms {
			xs[i] = r.of(m)
		}
		w.apply(k, r.n, xs[:len(ms)]...)
	}, ms...)
	return nil
}

func pick(mode int32, set, add *kernel) *kernel {
	if kernels.Mode(mode) == kernels.Add {
		return add
	}
	return set
}

// fill and convert serve every plain type and are not hot: one element after the other.
func fill(d *Device, c *kernels.Cmd) error {
	dst := c.T[0]
	d.rows(dst.Rows, dst.Cols, func(_ *worker, i int) {
		put := writer(dst, i)
		for j := range dst.Cols {
			put(j, float64(c.F[0]))
		}
	})
	return nil
}

func convert(d *Device, c *kernels.Cmd) error {
	dst, src := c.T[0], c.T[1]
	if dst.Type == dtype.F32 && src.Type == dtype.F32 {
		to, from := f32(dst), f32(src)
		d.spread(dst.Rows, dst.Cols, func(_ *worker, r span) { copy(r.of(to), r.of(from)) }, to, from)
		return nil
	}
	switch {
	case dst.Type == dtype.BF16 && src.Type == dtype.F32:
		to, from := view[uint16](dst, dtype.BF16), f32(src)
		d.spans(dst.Rows, dst.Cols, to.packed() && from.packed(), func(w *worker, r span) { w.narrow(to.p[r.at(to.ld):], r.of(from)) })
		return nil
	case dst.Type == dtype.F32 && src.Type == dtype.BF16:
		to, from := f32(dst), view[uint16](src, dtype.BF16)
		d.spans(dst.Rows, dst.Cols, to.packed() && from.packed(), func(w *worker, r span) { w.widen(r.of(to), from.p[r.at(from.ld):][:r.n]) })
		return nil
	}
	d.rows(dst.Rows, dst.Cols, func(_ *worker, i int) {
		put, get := writer(dst, i), reader(src, i)
		for j := range dst.Cols {
			put(j, get(j))
		}
	})
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
