// Package gpubench measures what a GPU reaches through kernels.Device: products, attention, what is bound by memory,
// transfers, and what a launch costs the host. Figures are plain data, named as kernels/cuda/gpucheck/torch_ref.py names
// PyTorch's beside them.
//
// A figure is the best of several runs of a queue of calls that ends with a wait, so that the queue hides launches.
// Concurrency: nothing else should use the device meanwhile.
package gpubench

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// Figure is one measurement.
type Figure struct {
	Name  string  `json:"name"` // "gemm 4096x4096x4096 nt bf16"
	Value float64 `json:"value"`
	Unit  string  `json:"unit"` // TFLOP/s, GB/s, ns
}

// Bench measures on one device.
type Bench struct {
	dev   kernels.Device
	s     *kernels.Stream
	Small bool // small sizes: that it runs, not how fast
}

// New makes a bench on dev.
func New(dev kernels.Device) *Bench { return &Bench{dev: dev, s: kernels.NewStream(dev)} }

// Part is a group of measurements.
type Part struct {
	Name    string
	Measure func(ctx context.Context) ([]Figure, error)
}

// Parts lists what a bench measures.
func (b *Bench) Parts() []Part {
	return []Part{{"launch", b.Launch}, {"copy", b.Copies}, {"gemm", b.Products}, {"attention", b.Attention}, {"memory", b.Memory}}
}

// best is the seconds of one call of f in the fastest of several queues of n calls.
func (b *Bench) best(ctx context.Context, n int, f func()) (float64, error) {
	queues := 5
	if b.Small {
		n, queues = 1, 1
	}
	f()
	if err := b.s.Sync(ctx); err != nil {
		return 0, err
	}
	best := time.Duration(1 << 62)
	for range queues {
		start := time.Now()
		for range n {
			f()
		}
		if err := b.s.Sync(ctx); err != nil {
			return 0, err
		}
		best = min(best, time.Since(start))
	}
	return max(best, 1).Seconds() / float64(n), nil
}

// tensor is one of numbers that are not all the same.
func (b *Bench) tensor(a *kernels.Arena, t dtype.Type, rows, cols int) kernels.Tensor {
	x := a.Tensor(t, rows, cols)
	step, key := a.I32(1, 1), a.I32(rows, 2)
	v := make([]int32, 2*rows)
	for i := range v {
		v[i] = int32(i)
	}
	b.s.UploadI32(key, v)
	b.s.Fill(x, 0.5)
	b.s.Drop(x, x, kernels.Dropout{Rate: 0.5, Seed: 7, Step: step, Key: key}, kernels.Set)
	return x
}

// Launch is what a small command costs from end to end, and the host alone.
func (b *Bench) Launch(ctx context.Context) ([]Figure, error) {
	a := kernels.NewArena(b.dev, 1<<20)
	defer a.Free()
	x := a.F32(4, 8)
	b.s.Fill(x, 0)
	const calls = 640
	d, err := b.best(ctx, 10, func() {
		for range calls {
			b.s.Add(x, x, x)
		}
	})
	if err != nil {
		return nil, err
	}
	return []Figure{{"launch of a small kernel", d / calls * 1e9, "ns"}}, nil
}

// Copies are transfers and the copy that memory-bound kernels are held against.
func (b *Bench) Copies(ctx context.Context) ([]Figure, error) {
	n := 1 << 26 // 256 MiB
	if b.Small {
		n = 1 << 10
	}
	a := kernels.NewArena(b.dev, 1<<20)
	defer a.Free()
	x, y, host := a.F32(1, n), a.F32(1, n), make([]float32, n)
	b.s.Fill(x, 1)
	d, err := b.best(ctx, 20, func() { b.s.Copy(y, x) })
	if err != nil {
		return nil, err
	}
	out := []Figure{{"copy on the GPU", 8 * float64(n) / d / 1e9, "GB/s"}}
	if d, err = b.best(ctx, 1, func() { b.s.Upload(x, host) }); err != nil {
		return out, err
	}
	out = append(out, Figure{"upload", 4 * float64(n) / d / 1e9, "GB/s"})
	var failed error
	if d, err = b.best(ctx, 1, func() { failed = b.s.Download(host, x) }); err != nil || failed != nil {
		return out, failed
	}
	return append(out, Figure{"download", 4 * float64(n) / d / 1e9, "GB/s"}), nil
}

// Products are those of layers and heads of models of 124M and 1B parameters, and a cube.
func (b *Bench) Products(ctx context.Context) (out []Figure, err error) {
	shapes := [][3]int{{8192, 8192, 8192}, {16384, 768, 768}, {16384, 2048, 768}, {8192, 2048, 2048}, {8192, 5632, 2048}, {8192, 2048, 5632}}
	if b.Small {
		shapes = [][3]int{{40, 24, 32}}
	}
	for _, t := range []dtype.Type{dtype.BF16, dtype.F32} {
		for _, s := range shapes {
			if t == dtype.F32 && s[0] == 8192 && s[1] == 8192 {
				s = [3]int{4096, 4096, 4096}
			}
			for _, l := range []struct {
				name   string
				ta, tb bool
			}{{"nt", false, true}, {"nn", false, false}, {"tn", true, false}} {
				f, err := b.product(ctx, s, l.name, t, kernels.MatMul{TA: l.ta, TB: l.tb, Compute: t})
				if err != nil {
					return out, err
				}
				out = append(out, f)
			}
		}
	}
	return out, nil
}

func (b *Bench) product(ctx context.Context, s [3]int, layout string, t dtype.Type, o kernels.MatMul) (Figure, error) {
	a := kernels.NewArena(b.dev, 1<<20)
	defer a.Free()
	m, n, k := s[0], s[1], s[2]
	ar, ac, br, bc := m, k, k, n
	if o.TA {
		ar, ac = k, m
	}
	if o.TB {
		br, bc = n, k
	}
	x, y, z := b.tensor(a, t, ar, ac), b.tensor(a, t, br, bc), a.Tensor(t, m, n)
	d, err := b.best(ctx, 20, func() { b.s.MatMul(z, x, y, o) })
	return Figure{fmt.Sprintf("gemm %dx%dx%d %s %v", m, n, k, layout, t), 2 * float64(m) * float64(n) * float64(k) / d / 1e12, "TFLOP/s"}, err
}

// Attention is causal, of 8192 tokens, forward and backward; pairs that the mask hides are not counted.
func (b *Bench) Attention(ctx context.Context) (out []Figure, err error) {
	seqs, tokens, heads := 4, 2048, 16
	if b.Small {
		seqs, tokens, heads = 2, 20, 2
	}
	for _, dim := range []int{64, 128} {
		f, err := b.attention(ctx, seqs, tokens, heads, dim)
		if err != nil {
			return out, err
		}
		out = append(out, f...)
	}
	return out, nil
}

func (b *Bench) attention(ctx context.Context, seqs, tokens, heads, dim int) ([]Figure, error) {
	a := kernels.NewArena(b.dev, 1<<20)
	defer a.Free()
	n := seqs * tokens
	spec := kernels.AttnSpec{Heads: heads, KVHeads: heads, HeadDim: dim, Scale: 0.125, Compute: dtype.BF16,
		Seqs: &kernels.Seqs{N: n, Count: seqs, MaxQ: tokens, MaxK: tokens, QStart: a.I32(seqs+1, 1), KStart: a.I32(seqs, 1), KLen: a.I32(seqs, 1)}}
	starts, lens := make([]int32, seqs+1), make([]int32, seqs)
	for i := range lens {
		starts[i+1], lens[i] = int32((i+1)*tokens), int32(tokens)
	}
	b.s.UploadI32(spec.Seqs.QStart, starts)
	b.s.UploadI32(spec.Seqs.KStart, starts[:seqs])
	b.s.UploadI32(spec.Seqs.KLen, lens)
	var x [8]kernels.Tensor
	for i := range x {
		x[i] = b.tensor(a, dtype.BF16, n, heads*dim)
	}
	lse := a.F32(n, heads)
	pairs := float64(seqs) * float64(heads) * float64(tokens) * float64(tokens+1) / 2
	forward, err := b.best(ctx, 10, func() { b.s.Attention(x[0], lse, x[1], x[2], x[3], spec) })
	if err != nil {
		return nil, err
	}
	backward, err := b.best(ctx, 10, func() {
		b.s.AttentionBack(x[4], x[5], x[6], x[7], x[1], x[2], x[3], x[0], lse, spec, kernels.Set)
	})
	return []Figure{{fmt.Sprintf("attention forward d%d", dim), 4 * pairs * float64(dim) / forward / 1e12, "TFLOP/s"},
		{fmt.Sprintf("attention backward d%d", dim), 10 * pairs * float64(dim) / backward / 1e12, "TFLOP/s"}}, err
}

// Memory is what moves bytes and computes little: each figure counts what must be read and written once.
func (b *Bench) Memory(ctx context.Context) (out []Figure, err error) {
	rows, cols := 16384, 4096
	if b.Small {
		rows, cols = 3, 40
	}
	a := kernels.NewArena(b.dev, 1<<20)
	defer a.Free()
	x, y, z, w := b.tensor(a, dtype.BF16, rows, cols), b.tensor(a, dtype.BF16, rows, cols), a.Tensor(dtype.BF16, rows, cols), b.tensor(a, dtype.F32, 1, cols)
	rstd, hyper := a.F32(rows, 1), a.F32(1, 9)
	var f [4]kernels.Tensor
	for i := range f {
		f[i] = b.tensor(a, dtype.F32, rows/2, cols)
	}
	b.s.Upload(hyper, []float32{1, 0.9999, 0.9, 0.1, 0.999, 0.001, 0.1, 1e-8, 1e-4})
	half, single := float64(2*rows*cols), float64(4*(rows/2)*cols)
	for _, c := range []struct {
		name  string
		bytes float64
		run   func()
	}{
		{"rmsnorm bf16", 2 * half, func() { b.s.RMSNorm(z, rstd, x, w, 1e-5, 0) }},
		{"rmsnorm backward bf16", 3 * half, func() { b.s.RMSNormBack(z, kernels.Tensor{}, y, x, w, rstd, 0, kernels.Set) }},
		{"swiglu bf16", 3 * half, func() { b.s.SwiGLU(z, x, y) }},
		{"add bf16", 3 * half, func() { b.s.Add(z, x, y) }},
		{"adamw", 7 * single, func() { b.s.AdamW(f[0], f[1], f[2], f[3], hyper) }},
	} {
		d, err := b.best(ctx, 20, c.run)
		if err != nil {
			return out, err
		}
		out = append(out, Figure{c.name, c.bytes / d / 1e9, "GB/s"})
	}
	return out, nil
}
