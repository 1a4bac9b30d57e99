package kerneltest

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// testF16: products in F16 have the bits of products in F32 of operands that were rounded before, in all forms and for
// operands of all types, and what is too large for F16 is infinite in them.
func testF16(b *bench) {
	for variant := range 8 {
		for _, d := range [][3]int{{1, 1, 1}, {13, 33, 17}, {65, 31, 300}, {4, 64, 33}} {
			m, n, k := d[0], d[1], d[2]
			o := kernels.MatMul{TA: variant&1 != 0, TB: variant&2 != 0}
			x, w := b.rand(m, k), b.rand(k, n)
			if o.TA {
				x = b.rand(k, m)
			}
			if o.TB {
				w = b.rand(n, k)
			}
			typ := dtype.F32
			if variant&4 != 0 {
				typ, w = dtype.BF16, rounded(w)
			}
			want, got := b.put(zeros(m, n), 0), b.put(zeros(m, n), 3)
			b.s.MatMul(want, b.put(binary16(x), 0), b.put(binary16(w), 0), o)
			o.Compute = dtype.F16
			b.s.MatMul(got, b.put(x, 2), b.putAs(typ, w, 2), o)
			b.sameProduct(label("matmul f16 ", m, n, k, variant), b.get(got), b.get(want))
			b.done()
		}
	}
	y := b.put(zeros(1, 1), 0)
	b.s.MatMul(y, b.put(mat{1, 1, []float64{65520}}, 0), b.put(mat{1, 1, []float64{-1}}, 0), kernels.MatMul{Compute: dtype.F16})
	if v := b.get(y).v[0]; !math.IsInf(v, -1) {
		b.Errorf("65520 · -1 in f16 is %v", v)
	}
	b.done()
}

// binary16 is m rounded to F16.
func binary16(m mat) mat {
	out := m.clone()
	for i, v := range out.v {
		out.v[i] = float64(dtype.FromF16(dtype.ToF16(float32(v))))
	}
	return out
}

// testF16Products: the head and attention in F16 are off by the rounding of F16, an eighth of BF16's.
func testF16Products(b *bench) {
	const n, vocab, dim = 20, 37, 16
	target := make([]int32, n)
	for i := range target {
		target[i] = int32(i) % vocab
	}
	h, w, coef := b.rand(n, dim), b.rand(vocab, dim), b.rand(n, 1)
	var got [2]kernels.Head
	var out [2][4]mat
	var x [4]mat
	for i := range x {
		x[i] = b.rand(n, 2*dim)
	}
	for i, typ := range []dtype.Type{dtype.F32, dtype.F16} {
		got[i] = kernels.Head{H: b.put(h, 0), W: b.put(w, 0), Target: b.ints(1, target...), LogP: b.arena.F32(n, 1),
			Coef: b.put(coef, 0), DH: b.put(zeros(n, dim), 0), DW: b.put(zeros(vocab, dim), 0), Compute: typ}
		b.s.Head(got[i])
		spec := kernels.AttnSpec{Heads: 2, KVHeads: 2, HeadDim: dim, Scale: 0.25, Compute: typ,
			Seqs: &kernels.Seqs{N: n, Count: 1, MaxQ: n, MaxK: n, QStart: b.ints(1, 0, n), KStart: b.ints(1, 0), KLen: b.ints(1, n)}}
		q, k, v, do := b.put(x[0], 0), b.put(x[1], 0), b.put(x[2], 0), b.put(x[3], 0)
		o, lse, dq, dk, dv := b.arena.F32(n, 2*dim), b.arena.F32(n, 2), b.arena.F32(n, 2*dim), b.arena.F32(n, 2*dim), b.arena.F32(n, 2*dim)
		b.s.Attention(o, lse, q, k, v, spec)
		b.s.AttentionBack(dq, dk, dv, do, q, k, v, o, lse, spec, kernels.Set)
		out[i] = [4]mat{b.get(o), b.get(dq), b.get(dk), b.get(dv)}
	}
	b.close("head f16 logp", b.get(got[1].LogP), b.get(got[0].LogP), 0x1p-9)
	b.close("head f16 dw", b.get(got[1].DW), b.get(got[0].DW), 0x1p-9)
	b.close("head f16 dh", b.get(got[1].DH), b.get(got[0].DH), 0x1p-9)
	for i, name := range []string{"o", "dq", "dk", "dv"} {
		b.close("attention f16 "+name, out[1][i], out[0][i], 0x1p-9)
	}
	b.done()
}
