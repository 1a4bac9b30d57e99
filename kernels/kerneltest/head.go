package kerneltest

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
)

// headRef gives the per-token log-probabilities, normalizers and entropies.
func headRef(h, w, bias mat, target []int32, softcap, scale float64) (logp, lse, entropy mat) {
	logp, lse, entropy = zeros(h.rows, 1), zeros(h.rows, 1), zeros(h.rows, 1)
	z := matMul(h, w, false, true)
	for i := range h.rows {
		row, sum := z.row(i), 0.0
		for j := range row {
			row[j] = (row[j] + bias.v[j]) * scale
			if softcap > 0 {
				row[j] = softcap * math.Tanh(row[j]/softcap)
			}
			sum += math.Exp(row[j])
		}
		lse.v[i] = math.Log(sum)
		for _, x := range row {
			entropy.v[i] += math.Exp(x-lse.v[i]) * (lse.v[i] - x)
		}
		if target[i] >= 0 {
			logp.v[i] = row[target[i]] - lse.v[i]
		}
	}
	return logp, lse, entropy
}

func testHead(b *bench) {
	for _, c := range []struct {
		vocab, dim, pad int
		softcap, scale  float64
		bias            bool
	}{{5, 3, 0, 0, 1, false}, {37, 8, 3, 0, 1, true}, {40, 16, 0, 3, 0.5, true}, {33, 8, 0, 0, 0.25, false}} {
		target := []int32{0, -1, 4, 2, 3, 1}
		n := len(target)
		h, w, bias, coef := b.rand(n, c.dim), b.rand(c.vocab, c.dim), zeros(1, c.vocab), b.rand(n, 1)
		if c.bias {
			bias = b.rand(1, c.vocab)
		}
		logp, lse, entropy := headRef(h, w, bias, target, c.softcap, c.scale)
		loss := func() float64 {
			l, _, _ := headRef(h, w, bias, target, c.softcap, c.scale)
			return inner(coef, l)
		}
		dh, dw, db := slope(h, loss), slope(w, loss), slope(bias, loss)

		o := kernels.Head{H: b.put(h, c.pad), W: b.put(w, c.pad), Target: b.ints(1, target...), Softcap: float32(c.softcap), LogitScale: float32(c.scale),
			LogP: b.put(b.base(n, 1), 0), LSE: b.put(b.base(n, 1), 0), Entropy: b.put(b.base(n, 1), 0), Best: b.arena.I32(n, 1)}
		if c.bias {
			o.Bias = b.put(bias, 0)
		}
		b.s.Head(o)
		b.close("logp", b.get(o.LogP), logp, 2e-6)
		b.close("lse", b.get(o.LSE), lse, 2e-6)
		b.close("entropy", b.get(o.Entropy), entropy, 5e-6)

		for pass, mode := range modes { // phase two alone with the LSE of phase one, then both phases in one pass
			ph, pw, pb := b.base(n, c.dim), b.base(c.vocab, c.dim), b.base(1, c.vocab)
			two := o
			two.Entropy, two.Best, two.ModeH = kernels.Tensor{}, kernels.Tensor{}, mode
			two.SetW = mode == kernels.Set
			two.Coef, two.DH, two.DW, two.DBias = b.put(coef, 0), b.put(ph, c.pad), b.put(pw, c.pad), b.put(pb, 0)
			if pass == 0 {
				two.LogP = kernels.Tensor{}
			} else {
				two.LSE = kernels.Tensor{}
			}
			b.s.Head(two)
			b.close("head dh", b.get(two.DH), expect(mode, ph, dh), 5e-6)
			b.close("head dw", b.get(two.DW), expect(mode, pw, dw), 5e-6)
			b.close("head dbias", b.get(two.DBias), pb.plus(1, db), 5e-6)
		}
		b.done()
	}
}

// testHeadChunks: more tokens than backends take at a time give the sums of single tokens.
func testHeadChunks(b *bench) {
	const n, vocab, dim = 1100, 19, 4
	target := make([]int32, n)
	for i := range target {
		target[i] = int32(i%(vocab+1)) - 1
	}
	h, w, coef, bias := b.rand(n, dim), b.rand(vocab, dim), b.rand(n, 1), zeros(1, vocab)
	logp, lse, _ := headRef(h, w, bias, target, 0, 1)
	z, dz := matMul(h, w, false, true), zeros(n, vocab)
	for i, t := range target {
		for j := range vocab {
			if t >= 0 {
				dz.set(i, j, -coef.v[i]*math.Exp(z.at(i, j)-lse.v[i]))
			}
		}
		if t >= 0 {
			dz.set(i, int(t), dz.at(i, int(t))+coef.v[i])
		}
	}
	o := kernels.Head{H: b.put(h, 1), W: b.put(w, 0), Target: b.ints(1, target...), LogP: b.arena.F32(n, 1), Coef: b.put(coef, 0),
		DH: b.put(b.base(n, dim), 3), DW: b.put(b.base(vocab, dim), 2), SetW: true}
	b.s.Head(o)
	b.close("logp of chunks", b.get(o.LogP), logp, 2e-6)
	b.close("dh of chunks", b.get(o.DH), matMul(dz, w, false, false), 5e-6)
	b.close("dw of chunks", b.get(o.DW), matMul(dz, h, true, false), 5e-6)
	b.done()
}
