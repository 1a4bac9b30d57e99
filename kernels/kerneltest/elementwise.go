package kerneltest

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// shapes have whole vectors, tails, and rows shorter than a vector.
var shapes = [][3]int{{1, 1, 0}, {3, 5, 0}, {4, 16, 0}, {2, 17, 3}, {5, 33, 7}, {3, 172, 0}, {2, 64, 16}, {1, 40000, 0}}

// eachShape runs a case for all shapes and modes; pad is the shape's.
func (b *bench) eachShape(f func(rows, cols, pad int, mode kernels.Mode)) {
	for _, s := range shapes {
		for _, mode := range modes {
			f(s[0], s[1], s[2], mode)
			b.done()
		}
	}
}

// zip computes an element-wise reference.
func zip(f func(x ...float64) float64, ms ...mat) mat {
	out := zeros(ms[0].rows, ms[0].cols)
	xs := make([]float64, len(ms))
	for i := range out.v {
		for k, m := range ms {
			xs[k] = m.v[i]
		}
		out.v[i] = f(xs...)
	}
	return out
}

func testElementwise(b *bench) {
	b.eachShape(func(rows, cols, pad int, mode kernels.Mode) {
		x, y, prev, w := b.rand(rows, cols), b.rand(rows, cols), b.base(rows, cols), b.rand(1, cols)
		tx, ty := b.put(x, pad), b.put(y, pad)

		dst := b.put(prev, pad)
		b.s.Add(dst, tx, ty)
		b.close("add", b.get(dst), x.plus(1, y), 1e-7)

		dst = b.put(prev, pad)
		b.s.Mul(dst, tx, ty, mode)
		b.close("mul", b.get(dst), expect(mode, prev, zip(func(v ...float64) float64 { return v[0] * v[1] }, x, y)), 2e-7)

		dst = b.put(prev, pad)
		b.s.Mul(dst, tx, b.put(w, 0), mode)
		wide := zeros(rows, cols)
		for i := range rows {
			copy(wide.row(i), w.v)
		}
		b.close("mul by columns", b.get(dst), expect(mode, prev, zip(func(v ...float64) float64 { return v[0] * v[1] }, x, wide)), 2e-7)

		dst = b.put(prev, pad)
		b.s.Scale(dst, tx, 0.3, mode)
		f := float64(float32(0.3))
		b.close("scale", b.get(dst), expect(mode, prev, zip(func(v ...float64) float64 { return f * v[0] }, x)), 2e-7)

		dst = b.put(prev, pad)
		b.s.Fill(dst, -2.5)
		b.close("fill", b.get(dst), zip(func(...float64) float64 { return -2.5 }, x), 0)

		b.s.Add(tx, tx, tx) // in place
		b.close("add in place", b.get(tx), x.plus(1, x), 1e-7)
	})
}

func testSumRows(b *bench) {
	b.eachShape(func(rows, cols, pad int, mode kernels.Mode) {
		x, prev := b.rand(rows, cols), b.base(1, cols)
		want := zeros(1, cols)
		for i := range rows {
			for j := range cols {
				want.v[j] += x.at(i, j)
			}
		}
		dst := b.put(prev, pad)
		b.s.SumRows(dst, b.put(x, pad), mode)
		b.close("sum of rows", b.get(dst), expect(mode, prev, want), 1e-6)
	})
}

func swiglu(g, u float64) float64 { return g / (1 + math.Exp(-g)) * u }

func gelu(x float64) float64 {
	return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
}

func testGated(b *bench) {
	b.eachShape(func(rows, cols, pad int, mode kernels.Mode) {
		g, u, dy := b.rand(rows, cols), b.rand(rows, cols), b.rand(rows, cols)
		for i := range g.v {
			g.v[i] *= 4
		}
		tg, tu, tdy := b.put(g, pad), b.put(u, pad), b.put(dy, pad)
		y := b.put(b.base(rows, cols), pad)
		b.s.SwiGLU(y, tg, tu)
		b.close("swiglu", b.get(y), zip(func(v ...float64) float64 { return swiglu(v[0], v[1]) }, g, u), 5e-7)
		b.s.GELU(y, tg)
		b.close("gelu", b.get(y), zip(func(v ...float64) float64 { return gelu(v[0]) }, g), 5e-7)

		pg, pu := b.base(rows, cols), b.base(rows, cols)
		dg, du := b.put(pg, pad), b.put(pu, pad)
		b.s.SwiGLUBack(dg, du, tdy, tg, tu, mode)
		b.close("swiglu d gate", b.get(dg), expect(mode, pg, pointwise(swiglu, 0, dy, g, u)), 1e-6)
		b.close("swiglu d up", b.get(du), expect(mode, pu, pointwise(swiglu, 1, dy, g, u)), 1e-6)

		dx := b.put(pg, pad)
		b.s.GELUBack(dx, tdy, tg, mode)
		b.close("gelu d x", b.get(dx), expect(mode, pg, pointwise(func(x, _ float64) float64 { return gelu(x) }, 0, dy, g, u)), 3e-6)
	})
}

// pointwise is dy·∂f/∂(argument arg) by central differences.
func pointwise(f func(x, y float64) float64, arg int, dy, x, y mat) mat {
	const h = 1e-5
	return zip(func(v ...float64) float64 {
		if arg == 0 {
			return v[0] * (f(v[1]+h, v[2]) - f(v[1]-h, v[2])) / (2 * h)
		}
		return v[0] * (f(v[1], v[2]+h) - f(v[1], v[2]-h)) / (2 * h)
	}, dy, x, y)
}

// testSpecial: NaN, infinities and the ends of the range go through the curved functions as float64 has them.
func testSpecial(b *bench) {
	inf := math.Inf(1)
	x := mat{1, 18, []float64{0, math.Copysign(0, -1), inf, math.NaN(), 1e-40, -1e-40, 88, -88, 104, -104, 3e38, -3e38, 1, -1, 20, -20, -inf, 0.5}}
	one := zip(func(...float64) float64 { return 1 }, x)
	y := b.put(one, 2)
	b.s.SwiGLU(y, b.put(x, 3), b.put(one, 3))
	got := b.get(y)
	for i, v := range x.v {
		want := swiglu(v, 1)
		if v == -3e38 || v == -inf { // -x·exp(x) below the range
			want = 0
			if v == -inf {
				want = math.NaN()
			}
		}
		if g := got.v[i]; !(math.IsNaN(g) && math.IsNaN(want) || g == want || math.Abs(g-want) <= 1e-6*math.Abs(want)+1e-36) {
			b.Errorf("swiglu(%v, 1) = %v, want %v", v, g, want)
		}
	}
	b.done()
}

func testConvert(b *bench) {
	x := b.rand(5, 37)
	x.v[0], x.v[1], x.v[2], x.v[3] = math.NaN(), math.Inf(-1), 0x1p-20, 65519
	src := b.put(x, 3)
	for _, typ := range []dtype.Type{dtype.F32, dtype.BF16, dtype.F16, dtype.F64} {
		mid, back := b.arena.Tensor(typ, 5, 37), b.put(zeros(5, 37), 2)
		b.s.Copy(mid, src)
		b.s.Copy(back, mid)
		want := x.clone()
		for i, v := range want.v {
			switch typ {
			case dtype.BF16:
				want.v[i] = float64(dtype.FromBF16(dtype.ToBF16(float32(v))))
			case dtype.F16:
				want.v[i] = float64(dtype.FromF16(dtype.ToF16(float32(v))))
			}
		}
		b.close("through "+typ.String(), b.get(back), want, 0)
	}
	b.done()
}
