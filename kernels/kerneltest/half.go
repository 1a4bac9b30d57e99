package kerneltest

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// halfOps runs every op that takes BF16 activations. Tensors of acts may be BF16: in is read, out is written, both of
// (n, c); the rest is F32.
type halfOps struct {
	b          *bench
	n, c       int
	in, out    func(i int) kernels.Tensor
	w, rstd    kernels.Tensor
	table      kernels.Tensor
	stat, grad kernels.Tensor
	spec       kernels.AttnSpec
	lse        kernels.Tensor
	pos, freq  kernels.Tensor
	ids        kernels.Tensor
	drop       kernels.Dropout
}

func (h *halfOps) run(name string, m kernels.Mode) {
	s, in, out, none := h.b.s, h.in, h.out, kernels.Tensor{}
	switch name {
	case "Add":
		s.Add(out(0), in(0), in(1))
	case "Mul":
		s.Mul(out(0), in(0), in(1), m)
		s.Mul(out(1), in(0), in(1).SliceRows(0, 1), m)
	case "Scale":
		s.Scale(out(0), in(0), 0.3, m)
	case "SumRows":
		s.SumRows(h.grad, in(0), m)
	case "SwiGLU":
		s.SwiGLU(out(0), in(0), in(1))
		s.SwiGLUBack(out(1), out(2), in(2), in(0), in(1), m)
	case "GELU":
		s.GELU(out(0), in(0))
		s.GELUBack(out(1), in(2), in(0), m)
	case "RMSNorm":
		s.RMSNorm(out(0), h.rstd, in(0), h.w, 1e-5, 0)
		s.RMSNormBack(out(1), h.grad, in(1), in(0), h.w, h.rstd, 0, m)
	case "LayerNorm":
		s.LayerNorm(out(0), h.stat, in(0), h.w, h.w, 1e-5)
		s.LayerNormBack(out(1), h.grad, none, in(1), in(0), h.w, h.stat, m)
	case "Rope":
		s.Rope(out(0), in(0), h.pos, h.freq, 2, kernels.Rope{HeadDim: h.c / 2, Scale: 1, Mode: m})
	case "Drop":
		s.Drop(out(0), in(0), h.drop, m)
	case "Rows":
		s.GatherRows(out(0), in(0), h.ids)
		s.CopyRows(out(1), in(1), h.ids)
		s.ScatterAddRows(h.table, in(2), h.ids, h.ids)
	case "Attention":
		s.Attention(out(0), h.lse, in(0), in(1), in(2), h.spec)
		s.AttentionBack(out(1), out(2), out(3), in(3), in(0), in(1), in(2), in(0), h.lse, h.spec, m)
	}
}

// testHalfOps: the result with BF16 tensors is that with F32 tensors of the same numbers, rounded once.
func testHalfOps(b *bench) {
	for _, name := range []string{"Add", "Mul", "Scale", "SumRows", "SwiGLU", "GELU", "RMSNorm", "LayerNorm", "Rope", "Drop", "Rows", "Attention"} {
		for _, mode := range modes {
			for _, pad := range []int{0, 3} {
				halfOpCase(b, name, mode, pad)
			}
		}
	}
}

func halfOpCase(b *bench, name string, mode kernels.Mode, pad int) {
	const n, c, acts = 7, 36, 4
	var ins, outs [acts]mat
	for i := range ins {
		ins[i], outs[i] = rounded(b.rand(n, c)), rounded(b.base(n, c))
	}
	w, grad := b.rand(1, c), b.base(1, c)
	freq := zeros(1, c/4)
	for k := range freq.v {
		freq.v[k] = 1 / float64(k+1)
	}
	seqs := &kernels.Seqs{N: n, Count: 2, MaxQ: 4, MaxK: 4, QStart: b.ints(1, 0, 3, n), KStart: b.ints(1, 0, 3), KLen: b.ints(1, 3, 4)}
	h := &halfOps{b: b, n: n, c: c, w: b.put(w, 0), rstd: b.arena.F32(n, 1), stat: b.arena.F32(n, 2), lse: b.arena.F32(n, 2),
		spec: kernels.AttnSpec{Seqs: seqs, Heads: 2, KVHeads: 2, HeadDim: c / 2, Scale: 0.25},
		pos:  b.ints(1, 0, 1, 2, 3, 4, 5, 6), freq: b.put(freq, 0), ids: b.ints(1, 0, 1, 2, 3, 4, 5, 6),
		drop: kernels.Dropout{Rate: 0.25, Seed: 3, Step: b.ints(1, 1), Key: b.ints(2, 0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6)}}
	var want, got [acts]mat
	var grads [2]mat
	for half := range 2 {
		typ := []dtype.Type{dtype.F32, dtype.BF16}[half]
		var ti, to [acts]kernels.Tensor
		for i := range ti {
			ti[i], to[i] = b.putAs(typ, ins[i], pad), b.putAs(typ, outs[i], pad)
		}
		h.in, h.out = func(i int) kernels.Tensor { return ti[i] }, func(i int) kernels.Tensor { return to[i] }
		h.grad, h.table = b.put(grad, 0), b.put(zeros(n, c), 0)
		h.run(name, mode)
		for i := range to {
			wide := b.arena.F32(n, c)
			b.s.Copy(wide, to[i])
			if half == 0 {
				want[i] = rounded(b.get(wide))
			} else {
				got[i] = b.get(wide)
			}
		}
		grads[half] = b.get(h.grad)
	}
	for i := range got {
		b.same(label(name, " ", modeName(mode), " output ", i), got[i], narrow(want[i].v))
	}
	b.same(name+" gradient", grads[1], narrow(grads[0].v))
	b.done()
}

// testHalfProducts: heads and attention that compute their products in BF16. Their factors are then off by up to 2⁻⁹ each,
// also the probabilities and gradients in between, so results are off by about 2⁻⁸ of the largest.
func testHalfProducts(b *bench) {
	const n, vocab, dim = 20, 1301, 16 // more columns than a block of a GPU has at a time
	target := make([]int32, n)
	for i := range target {
		target[i] = int32(i) % vocab
	}
	h, w, coef := rounded(b.rand(n, dim)), rounded(b.rand(vocab, dim)), b.rand(n, 1)
	var got [2]kernels.Head
	for i, typ := range []dtype.Type{dtype.F32, dtype.BF16} {
		got[i] = kernels.Head{H: b.putAs(typ, h, 0), W: b.putAs(typ, w, 0), Target: b.ints(1, target...), LogP: b.arena.F32(n, 1), Entropy: b.arena.F32(n, 1),
			Coef: b.put(coef, 0), DH: b.putAs(typ, zeros(n, dim), 0), DW: b.put(zeros(vocab, dim), 0), Compute: typ}
		b.s.Head(got[i])
	}
	b.close("head bf16 logp", b.get(got[1].LogP), b.get(got[0].LogP), 1e-6)
	b.close("head bf16 entropy", b.get(got[1].Entropy), b.get(got[0].Entropy), 1e-5)
	b.close("head bf16 dw", b.get(got[1].DW), b.get(got[0].DW), 0x1p-7)
	dh := b.arena.F32(n, dim)
	b.s.Copy(dh, got[1].DH)
	b.close("head bf16 dh", b.get(dh), b.get(got[0].DH), 0x1p-7)

	var x [4]mat
	for i := range x {
		x[i] = rounded(b.rand(n, 2*dim))
	}
	var out [2][4]mat
	for i, typ := range []dtype.Type{dtype.F32, dtype.BF16} {
		spec := kernels.AttnSpec{Heads: 2, KVHeads: 2, HeadDim: dim, Scale: 0.25, Compute: typ,
			Seqs: &kernels.Seqs{N: n, Count: 1, MaxQ: n, MaxK: n, QStart: b.ints(1, 0, n), KStart: b.ints(1, 0), KLen: b.ints(1, n)}}
		q, k, v, do := b.put(x[0], 0), b.put(x[1], 0), b.put(x[2], 0), b.put(x[3], 0)
		o, lse, dq, dk, dv := b.arena.F32(n, 2*dim), b.arena.F32(n, 2), b.arena.F32(n, 2*dim), b.arena.F32(n, 2*dim), b.arena.F32(n, 2*dim)
		b.s.Attention(o, lse, q, k, v, spec)
		b.s.AttentionBack(dq, dk, dv, do, q, k, v, o, lse, spec, kernels.Set)
		out[i] = [4]mat{b.get(o), b.get(dq), b.get(dk), b.get(dv)}
	}
	for i, name := range []string{"o", "dq", "dk", "dv"} {
		b.close("attention bf16 "+name, out[1][i], out[0][i], 0x1p-6)
	}
	b.done()
}
