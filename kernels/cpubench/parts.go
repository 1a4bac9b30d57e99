package cpubench

import (
	"context"
	"fmt"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// Attention measures four sequences of a 15M Llama's layer, forward and backward; the pairs that the mask hides are not
// counted as work.
func (b *Bench) Attention(ctx context.Context, workers int) (out []Figure, err error) {
	const seqs, heads, dim = 4, 6, 48
	for _, t := range []int{256, 1024} {
		if b.Small && t > 256 {
			break
		}
		arena := kernels.NewArena(b.dev, 1<<20)
		spec := b.sequences(arena, seqs, t)
		spec.Heads, spec.KVHeads, spec.HeadDim, spec.Scale = heads, heads, dim, 0.14
		var x [8]kernels.Tensor
		for i := range x {
			x[i] = b.filled(arena, dtype.F32, seqs*t, heads*dim, false)
		}
		lse := arena.F32(seqs*t, heads)
		pairs := seqs * heads * t * (t + 1) / 2
		forward := b.best(workers, func() {
			b.s.Attention(x[0], lse, x[1], x[2], x[3], spec)
			b.s.Flush()
		})
		backward := b.best(workers, func() {
			b.s.AttentionBack(x[4], x[5], x[6], x[7], x[1], x[2], x[3], x[0], lse, spec, kernels.Set)
			b.s.Flush()
		})
		for _, f := range []Figure{
			{Name: fmt.Sprintf("attention forward T%d", t), Value: float64(4*pairs*dim) / float64(forward)},
			{Name: fmt.Sprintf("attention backward T%d", t), Value: float64(10*pairs*dim) / float64(backward)},
		} {
			f.Workers, f.Unit = workers, "GFLOP/s"
			if p := b.peak(dtype.F32, workers); p > 0 {
				f.OfPeak = f.Value / p
			}
			out = append(out, f)
		}
		err = b.s.Sync(ctx)
		arena.Free()
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// sequences describes n sequences of t tokens each.
func (b *Bench) sequences(a *kernels.Arena, n, t int) kernels.AttnSpec {
	d := &kernels.Seqs{N: n * t, Count: n, MaxQ: t, MaxK: t, QStart: a.I32(n+1, 1), KStart: a.I32(n, 1), KLen: a.I32(n, 1)}
	starts, lens := make([]int32, n+1), make([]int32, n)
	for i := range lens {
		starts[i+1], lens[i] = int32((i+1)*t), int32(t)
	}
	b.s.UploadI32(d.QStart, starts)
	b.s.UploadI32(d.KStart, starts[:n])
	b.s.UploadI32(d.KLen, lens)
	return kernels.AttnSpec{Seqs: d}
}

// Memory measures AdamW on 16M weights, which reads four numbers and writes three for each, beside a plain loop with
// the same traffic. OfPeak of AdamW is its share of that loop.
func (b *Bench) Memory(ctx context.Context, workers int) ([]Figure, error) {
	n := 1 << 24
	if b.Small {
		n = 1 << 20
	}
	arena := kernels.NewArena(b.dev, 1<<20)
	defer arena.Free()
	var x [4]kernels.Tensor
	for i := range x {
		x[i] = arena.F32(1, n)
		b.s.Fill(x[i], 0x1p-10)
	}
	hyper := arena.F32(1, 9)
	b.s.Upload(hyper, []float32{1, 0.9999, 0.9, 0.1, 0.999, 0.001, 0.1, 1e-8, 1e-4})
	if err := b.s.Sync(ctx); err != nil {
		return nil, err
	}
	bytes := float64(7 * 4 * n)
	plain := bytes / float64(b.best(workers, func() { b.dev.Traffic(x[0], x[2], x[3], x[1]) }))
	adamw := bytes / float64(b.best(workers, func() {
		b.s.AdamW(x[0], x[1], x[2], x[3], hyper)
		b.s.Flush()
	}))
	return []Figure{
		{Name: "memory 4 in 3 out", Workers: workers, Value: plain, Unit: "GB/s"},
		{Name: "optimizer AdamW", Workers: workers, Value: adamw, Unit: "GB/s", OfPeak: adamw / plain},
	}, b.s.Sync(ctx)
}
