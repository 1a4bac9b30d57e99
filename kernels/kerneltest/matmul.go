package kerneltest

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

func testMatMul(b *bench) {
	for _, d := range [][3]int{{1, 1, 1}, {1, 5, 3}, {3, 2, 7}, {12, 32, 16}, {13, 33, 17}, {7, 64, 172}, {65, 31, 300}, {130, 270, 64}, {25, 48, 530}} {
		for variant := range 4 {
			for _, mode := range modes {
				o := kernels.MatMul{TA: variant&1 != 0, TB: variant&2 != 0, Mode: mode}
				matMulCase(b, d[0], d[1], d[2], o, d[0]%2*3, d[2]%3 == 0)
			}
		}
	}
	matMulCase(b, 5, 6, 0, kernels.MatMul{}, 0, false)
	matMulCase(b, 5, 6, 0, kernels.MatMul{}, 2, true)
}

func matMulCase(b *bench, m, n, k int, o kernels.MatMul, pad int, bias bool) {
	b.Helper()
	a, w, prev, add := b.rand(m, k), b.rand(k, n), b.base(m, n), zeros(1, n)
	if bias {
		add = b.rand(1, n)
	}
	if o.TA {
		a = b.rand(k, m)
	}
	if o.TB {
		w = b.rand(n, k)
	}
	want := expect(o.Mode, prev, matMul(a, w, o.TA, o.TB))
	for i := range m {
		for j := range n {
			want.set(i, j, want.at(i, j)+add.at(0, j))
		}
	}
	if bias {
		o.Bias = b.put(add, 0)
	}
	c := b.put(prev, pad)
	b.s.MatMul(c, b.put(a, pad), b.put(w, pad), o)
	b.close(label("matmul ", m, n, k, o.TA, o.TB, modeName(o.Mode)), b.get(c), want, 1e-6*math.Sqrt(float64(k)+1))
	b.done()
}

func matMul(a, b mat, ta, tb bool) mat {
	at, bt := a.at, b.at
	m, k, n := a.rows, a.cols, b.cols
	if ta {
		m, k, at = k, m, func(i, j int) float64 { return a.at(j, i) }
	}
	if tb {
		n, bt = b.rows, func(i, j int) float64 { return b.at(j, i) }
	}
	c := zeros(m, n)
	for i := range m {
		for j := range n {
			s := 0.0
			for x := range k {
				s += at(i, x) * bt(x, j)
			}
			c.set(i, j, s)
		}
	}
	return c
}

// testMatMulSpecial: NaN and infinities reach exactly the elements they belong to.
func testMatMulSpecial(b *bench) {
	a, w := b.rand(14, 40), b.rand(40, 35)
	a.set(3, 7, math.NaN())
	a.set(13, 39, math.Inf(1))
	w.set(5, 34, math.Inf(-1))
	c := b.put(zeros(14, 35), 1)
	b.s.MatMul(c, b.put(a, 3), b.put(w, 2), kernels.MatMul{})
	b.close("matmul special", b.get(c), matMul(a, w, false, false), 1e-5)
	b.done()
}

// testMatMulHalf: operands and results of bfloat16 in any mixture. The reference computes with the rounded operands, so
// only the result's own rounding, 2⁻⁹, and float32 sums remain.
func testMatMulHalf(b *bench) {
	types := []dtype.Type{dtype.F32, dtype.BF16}
	for _, d := range [][3]int{{1, 1, 1}, {3, 2, 7}, {13, 33, 17}, {65, 31, 300}, {4, 64, 33}, {150, 140, 64}, {25, 48, 531}} {
		for variant := range 64 {
			o := kernels.MatMul{TA: variant&1 != 0, TB: variant&2 != 0, Compute: types[variant>>2&1]}
			if variant&8 != 0 {
				o.Mode = kernels.Add
			}
			ta, tb := types[variant>>4&1], types[variant>>5&1]
			if ta == dtype.F32 && tb == dtype.F32 && o.Compute == dtype.F32 {
				continue
			}
			halfCase(b, d[0], d[1], d[2], o, ta, tb, types[(variant^variant>>1^variant>>4)&1], variant%3)
		}
	}
}

func halfCase(b *bench, m, n, k int, o kernels.MatMul, ta, tb, tc dtype.Type, pad int) {
	b.Helper()
	a, w, prev := b.rand(m, k), b.rand(k, n), b.base(m, n)
	if o.TA {
		a = b.rand(k, m)
	}
	if o.TB {
		w = b.rand(n, k)
	}
	c, x, y := b.putAs(tc, prev, pad), b.putAs(ta, a, pad), b.putAs(tb, w, pad)
	if o.Compute == dtype.BF16 || ta == dtype.BF16 {
		a = rounded(a)
	}
	if o.Compute == dtype.BF16 || tb == dtype.BF16 {
		w = rounded(w)
	}
	tol := 1e-6 * math.Sqrt(float64(k)+1)
	if tc == dtype.BF16 {
		tol, prev = 0x1p-8, rounded(prev)
	}
	b.s.MatMul(c, x, y, o)
	got := b.put(zeros(m, n), 0)
	b.s.Copy(got, c)
	b.close(label("matmul ", m, n, k, o.TA, o.TB, modeName(o.Mode), " ", ta, tb, tc, " as ", o.Compute), b.get(got),
		expect(o.Mode, prev, matMul(a, w, o.TA, o.TB)), tol)
	b.done()
}

// rounded is m rounded to bfloat16.
func rounded(m mat) mat {
	out := m.clone()
	for i, v := range out.v {
		out.v[i] = float64(dtype.FromBF16(dtype.ToBF16(float32(v))))
	}
	return out
}
