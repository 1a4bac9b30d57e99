package kerneltest

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// attnCase is a small attention problem in float64.
type attnCase struct {
	name                string
	qlen, klen          []int // per sequence
	heads, kv, dim      int
	window, prefix, pad int
	softcap             float64
	spare               int // rows of keys that no sequence reads, behind the others
}

var attnCases = []attnCase{
	{name: "one", qlen: []int{1}, heads: 1, kv: 1, dim: 4},
	{name: "causal", qlen: []int{5, 3}, heads: 2, kv: 2, dim: 8},
	{name: "gqa strided", qlen: []int{4, 0, 7}, heads: 4, kv: 2, dim: 6, pad: 5},
	{name: "window", qlen: []int{9}, heads: 2, kv: 1, dim: 4, window: 3},
	{name: "softcap", qlen: []int{6}, heads: 1, kv: 1, dim: 5, softcap: 2},
	{name: "prefix", qlen: []int{3, 4}, heads: 4, kv: 2, dim: 4, prefix: 3},
	{name: "cache", qlen: []int{2, 1}, klen: []int{6, 9}, heads: 2, kv: 1, dim: 4},
	{name: "window over cache", qlen: []int{3}, klen: []int{9}, heads: 1, kv: 1, dim: 4, window: 4},
	{name: "blocks", qlen: []int{70}, heads: 1, kv: 1, dim: 2, window: 66},
}

// seqs lays the sequences out: queries one after the other, keys with a gap of one row before each run if there is a
// cache.
func (c attnCase) seqs(b *bench) (s *kernels.Seqs, qstart, kstart, klen []int32, krows int) {
	qstart = []int32{0}
	s = &kernels.Seqs{Count: len(c.qlen)}
	for i, n := range c.qlen {
		k := n
		if c.klen != nil {
			k = c.klen[i]
			krows++
		}
		kstart, klen = append(kstart, int32(krows)), append(klen, int32(k))
		krows += k
		qstart = append(qstart, qstart[i]+int32(n))
		s.MaxQ, s.MaxK = max(s.MaxQ, n), max(s.MaxK, k)
	}
	s.N = int(qstart[len(c.qlen)])
	s.QStart, s.KStart, s.KLen = b.ints(1, qstart...), b.ints(1, kstart...), b.ints(1, klen...)
	return s, qstart, kstart, klen, krows
}

func testAttention(b *bench) {
	for _, c := range attnCases {
		for _, mode := range modes {
			c.run(b, mode)
			b.done()
		}
	}
}

func (c attnCase) run(b *bench, mode kernels.Mode) {
	s, qstart, kstart, klen, krows := c.seqs(b)
	hd, kd := c.heads*c.dim, c.kv*c.dim
	q, k, v, do := b.rand(s.N, hd), b.rand(krows, kd), b.rand(krows, kd), b.rand(s.N, hd)
	pk, pv := b.rand(c.prefix, kd), b.rand(c.prefix, kd)
	spec := kernels.AttnSpec{Seqs: s, Heads: c.heads, KVHeads: c.kv, HeadDim: c.dim, Window: c.window,
		Scale: float32(1 / math.Sqrt(float64(c.dim))), Softcap: float32(c.softcap)}
	if c.prefix > 0 {
		spec.PrefixK, spec.PrefixV = b.put(pk, 0), b.put(pv, 0)
	}
	ref := func() (mat, mat) {
		return attentionRef(q, k, v, pk, pv, qstart, kstart, klen, spec)
	}
	wantO, wantL := ref()
	tq, tk, tv, tdo := b.put(q, c.pad), b.put(k, c.pad), b.put(v, c.pad), b.put(do, c.pad)
	o, lse := b.put(b.base(s.N, hd), c.pad), b.put(b.base(s.N, c.heads), c.pad)
	b.s.Attention(o, lse, tq, tk, tv, spec)
	b.close(c.name+" o", b.get(o), wantO, 2e-6)
	b.close(c.name+" lse", b.get(lse), wantL, 2e-6)

	prev := [5]mat{b.base(s.N, hd), b.base(krows, kd), b.base(krows, kd), b.base(c.prefix, kd), b.base(c.prefix, kd)}
	dq, dk, dv := b.put(prev[0], c.pad), b.put(prev[1], c.pad), b.put(prev[2], c.pad)
	if c.prefix > 0 {
		spec.DPrefixK, spec.DPrefixV = b.put(prev[3], 0), b.put(prev[4], 0)
	}
	b.s.AttentionBack(dq, dk, dv, tdo, tq, tk, tv, o, lse, spec, mode)
	loss := func() float64 { o, _ := ref(); return inner(do, o) }
	b.close(c.name+" dq", b.get(dq), expect(mode, prev[0], slope(q, loss)), 5e-6)
	b.close(c.name+" dk", b.get(dk), expect(mode, prev[1], slope(k, loss)), 5e-6)
	b.close(c.name+" dv", b.get(dv), expect(mode, prev[2], slope(v, loss)), 5e-6)
	if c.prefix > 0 {
		b.close(c.name+" dprefix k", b.get(spec.DPrefixK), prev[3].plus(1, slope(pk, loss)), 5e-6)
		b.close(c.name+" dprefix v", b.get(spec.DPrefixV), prev[4].plus(1, slope(pv, loss)), 5e-6)
	}
}

func attentionRef(q, k, v, pk, pv mat, qstart, kstart, klen []int32, a kernels.AttnSpec) (o, lse mat) {
	o, lse = zeros(q.rows, q.cols), zeros(q.rows, a.Heads)
	for s := range klen {
		queries := int(qstart[s+1] - qstart[s])
		for t := range queries {
			i, own := int(qstart[s])+t, int(klen[s])-queries+t
			for h := range a.Heads {
				lo := h / (a.Heads / a.KVHeads) * a.HeadDim
				var keys, values [][]float64
				for p := range pk.rows {
					keys, values = append(keys, pk.row(p)[lo:lo+a.HeadDim]), append(values, pv.row(p)[lo:lo+a.HeadDim])
				}
				for j := 0; j <= own; j++ {
					if a.Window > 0 && j <= own-a.Window {
						continue
					}
					r := int(kstart[s]) + j
					keys, values = append(keys, k.row(r)[lo:lo+a.HeadDim]), append(values, v.row(r)[lo:lo+a.HeadDim])
				}
				lse.set(i, h, attend(o.row(i)[h*a.HeadDim:(h+1)*a.HeadDim], q.row(i)[h*a.HeadDim:], keys, values, a))
			}
		}
	}
	return o, lse
}

// attend is one query of one head over the keys it sees.
func attend(o, q []float64, keys, values [][]float64, a kernels.AttnSpec) (lse float64) {
	scores, sum := make([]float64, len(keys)), 0.0
	for j, key := range keys {
		for x, kx := range key {
			scores[j] += q[x] * kx
		}
		scores[j] *= float64(a.Scale)
		if cap := float64(a.Softcap); cap > 0 {
			scores[j] = cap * math.Tanh(scores[j]/cap)
		}
		sum += math.Exp(scores[j])
	}
	for j, val := range values {
		for x, vx := range val {
			o[x] += math.Exp(scores[j]) / sum * vx
		}
	}
	return math.Log(sum)
}

// testAttentionCache: decoding token by token over a cache gives what the whole sequence gives at once.
func testAttentionCache(b *bench) {
	const n, heads, dim = 19, 2, 8
	q, k, v := b.rand(n, heads*dim), b.rand(n, heads*dim), b.rand(n, heads*dim)
	tq, tk, tv := b.put(q, 0), b.put(k, 0), b.put(v, 0)
	whole, lse := b.arena.F32(n, heads*dim), b.arena.F32(n, heads)
	spec := kernels.AttnSpec{Heads: heads, KVHeads: heads, HeadDim: dim, Scale: 0.25}
	spec.Seqs = &kernels.Seqs{N: n, Count: 1, MaxQ: n, MaxK: n, QStart: b.ints(1, 0, n), KStart: b.ints(1, 0), KLen: b.ints(1, n)}
	b.s.Attention(whole, lse, tq, tk, tv, spec)
	want := b.get(whole)
	for i := range n {
		one := b.arena.F32(1, heads*dim)
		spec.Seqs = &kernels.Seqs{N: 1, Count: 1, MaxQ: 1, MaxK: i + 1, QStart: b.ints(1, 0, 1), KStart: b.ints(1, 0), KLen: b.ints(1, int32(i+1))}
		b.s.Attention(one, lse.SliceRows(i, i+1), tq.SliceRows(i, i+1), tk, tv, spec)
		b.close("token", b.get(one), mat{1, heads * dim, want.row(i)}, 1e-6)
	}
	b.done()
}

// testAttentionHalf: all forms of attention with products in BF16 and F16, beside products in F32. Factors are off by 2⁻⁹
// or 2⁻¹² each, also the probabilities and gradients in between.
func testAttentionHalf(b *bench) {
	long := attnCase{name: "long", qlen: []int{150, 3}, heads: 2, kv: 1, dim: 16, spare: 70} // several tiles, and one that nobody reads
	for _, c := range append(slices.Clone(attnCases), long) {
		for _, mode := range modes {
			want := c.compute(b, dtype.F32, mode)
			for typ, tol := range map[dtype.Type]float64{dtype.BF16: 0x1p-5, dtype.F16: 0x1p-8} {
				if c.spare > 0 && typ == dtype.F16 {
					continue
				}
				for i, got := range c.compute(b, typ, mode) {
					b.close(label(c.name, " ", typ, " ", modeName(mode), " result ", i), got, want[i], tol)
				}
			}
		}
	}
}

// compute gives o, lse, dq, dk, dv and the gradients of the prefix, of the same numbers each time.
func (c attnCase) compute(b *bench, typ dtype.Type, mode kernels.Mode) (out []mat) {
	b.rng = rand.New(rand.NewPCG(7, 7))
	s, _, _, _, krows := c.seqs(b)
	krows += c.spare
	hd, kd := c.heads*c.dim, c.kv*c.dim
	spec := kernels.AttnSpec{Seqs: s, Heads: c.heads, KVHeads: c.kv, HeadDim: c.dim, Window: c.window, Compute: typ,
		Scale: float32(1 / math.Sqrt(float64(c.dim))), Softcap: float32(c.softcap)}
	operand := func(rows, cols int) kernels.Tensor {
		m := rounded(b.rand(rows, cols))
		if c.spare > 0 { // stored as what is multiplied, which devices may copy as it is
			return b.putAs(dtype.BF16, m, 0)
		}
		return b.put(m, c.pad)
	}
	q, k, v, do := operand(s.N, hd), operand(krows, kd), operand(krows, kd), operand(s.N, hd)
	o, lse := b.put(b.base(s.N, hd), c.pad), b.put(b.base(s.N, c.heads), 0)
	results := []kernels.Tensor{o, lse, b.put(b.base(s.N, hd), c.pad), b.put(b.base(krows, kd), c.pad), b.put(b.base(krows, kd), c.pad)}
	if c.prefix > 0 {
		spec.PrefixK, spec.PrefixV = b.put(b.rand(c.prefix, kd), 0), b.put(b.rand(c.prefix, kd), 0)
		spec.DPrefixK, spec.DPrefixV = b.put(b.base(c.prefix, kd), 0), b.put(b.base(c.prefix, kd), 0)
		results = append(results, spec.DPrefixK, spec.DPrefixV)
	}
	b.s.Attention(o, lse, q, k, v, spec)
	b.s.AttentionBack(results[2], results[3], results[4], do, q, k, v, o, lse, spec, mode)
	for _, r := range results {
		out = append(out, b.get(r))
	}
	b.done()
	return out
}
