//go:build cuda

package cuda

import (
	"context"
	"math"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cpu"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// large are the sizes of TestLarge: those of real layers, or small ones where the emulator is the device.
type large struct{ tokens, wide, heads, dim, vocab int }

// TestLarge runs the operations of a layer and a head at the sizes of real models, here and on the processor, and
// compares. Sums of so many numbers in another order differ by what float32 is off; of bfloat16 products by as much.
func TestLarge(t *testing.T) {
	gpu := open(t, Options{})
	size := large{2048, 2048, 16, 128, 32000}
	if emulated(gpu) {
		size = large{70, 96, 2, 48, 300}
	}
	host, err := cpu.Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	for _, typ := range []dtype.Type{dtype.F32, dtype.BF16} {
		want, got := size.layer(t, host, typ), size.layer(t, gpu, typ)
		for i, name := range []string{"product", "gradient of weights", "norm", "attention", "dq", "dk", "dv", "log-probabilities", "gradient of hidden states", "gradient of the head"} {
			tol := 2e-5
			if typ == dtype.BF16 {
				tol = 0x1p-6
			}
			if d := distance(got[i], want[i]); !(d <= tol) {
				t.Errorf("%v, %s: differs by %.2g of the largest, limit %.2g", typ, name, d, tol)
			} else {
				t.Logf("%v, %s: differs by %.2g of the largest", typ, name, d)
			}
		}
	}
}

// layer gives the outputs of the operations, with products computed in a type.
func (z large) layer(t *testing.T, dev kernels.Device, typ dtype.Type) (out [][]float32) {
	t.Helper()
	s, a := kernels.NewStream(dev), kernels.NewArena(dev, 1<<26)
	defer a.Free()
	numbers := func(rows, cols, seed int) kernels.Tensor {
		v := make([]float32, rows*cols)
		for i := range v {
			v[i] = float32(int32(uint32(i*7+seed)*2654435769)) * 0x1p-31
		}
		x := a.F32(rows, cols)
		s.Upload(x, v)
		return x
	}
	x, w, dy, gain := numbers(z.tokens, z.wide, 1), numbers(z.wide, z.wide, 2), numbers(z.tokens, z.wide, 3), numbers(1, z.wide, 4)
	y, dw, norm, rstd := a.F32(z.tokens, z.wide), a.F32(z.wide, z.wide), a.F32(z.tokens, z.wide), a.F32(z.tokens, 1)
	s.MatMul(y, x, w, kernels.MatMul{TB: true, Compute: typ})
	s.MatMul(dw, dy, x, kernels.MatMul{TA: true, Compute: typ})
	s.RMSNorm(norm, rstd, x, gain, 1e-5, 0)

	width := z.heads * z.dim
	q, k, v, do := numbers(z.tokens, width, 5), numbers(z.tokens, width, 6), numbers(z.tokens, width, 7), numbers(z.tokens, width, 8)
	half := int32(z.tokens / 2)
	spec := kernels.AttnSpec{Heads: z.heads, KVHeads: z.heads, HeadDim: z.dim, Scale: float32(1 / math.Sqrt(float64(z.dim))), Compute: typ,
		Seqs: &kernels.Seqs{N: z.tokens, Count: 2, MaxQ: z.tokens, MaxK: z.tokens, QStart: a.I32(3, 1), KStart: a.I32(2, 1), KLen: a.I32(2, 1)}}
	s.UploadI32(spec.Seqs.QStart, []int32{0, half, int32(z.tokens)})
	s.UploadI32(spec.Seqs.KStart, []int32{0, half})
	s.UploadI32(spec.Seqs.KLen, []int32{half, int32(z.tokens) - half})
	o, lse := a.F32(z.tokens, width), a.F32(z.tokens, z.heads)
	dq, dk, dv := a.F32(z.tokens, width), a.F32(z.tokens, width), a.F32(z.tokens, width)
	s.Attention(o, lse, q, k, v, spec)
	s.AttentionBack(dq, dk, dv, do, q, k, v, o, lse, spec, kernels.Set)

	target := make([]int32, z.tokens)
	for i := range target {
		target[i] = int32(i * 31 % z.vocab)
	}
	ids, coef := a.I32(z.tokens, 1), a.F32(z.tokens, 1)
	s.UploadI32(ids, target)
	s.Fill(coef, -1)
	h := kernels.Head{H: norm, W: numbers(z.vocab, z.wide, 9), Target: ids, LogP: a.F32(z.tokens, 1), Coef: coef, DH: a.F32(z.tokens, z.wide),
		DW: a.F32(z.vocab, z.wide), SetW: true, Compute: typ}
	s.Head(h)
	for _, r := range []kernels.Tensor{y, dw, norm, o, dq, dk, dv, h.LogP, h.DH, h.DW} {
		b := make([]float32, r.Len())
		if err := s.Download(b, r); err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	if err := s.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	return out
}

// distance is the largest difference, as a part of the largest number.
func distance(got, want []float32) float64 {
	most, scale := 0.0, 0.0
	for i, w := range want {
		d := math.Abs(float64(got[i]) - float64(w))
		if d != d {
			return d
		}
		most, scale = max(most, d), max(scale, math.Abs(float64(w)))
	}
	return most / scale
}
