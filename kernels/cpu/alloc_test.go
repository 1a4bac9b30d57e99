package cpu_test

import (
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cpu"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// TestNoGarbage: once scratch memory is there, ops take nothing from the Go heap.
func TestNoGarbage(t *testing.T) {
	dev, err := cpu.Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	s, a := kernels.NewStream(dev), kernels.NewArena(dev, 1<<22)
	const n, c, heads = 128, 64, 2
	x, y, z, q, w := a.F32(n, c), a.F32(n, c), a.F32(n, c), a.F32(n, c), a.F32(c, c)
	half, wide := a.Tensor(dtype.BF16, n, c), a.F32(n+3, c+5).SliceRows(1, n+1).SliceCols(0, c)
	row, rstd, stat, lse, one, hyper := a.F32(1, c), a.F32(n, 1), a.F32(n, 2), a.F32(n, heads), a.Tensor(dtype.F64, 1, 1), a.F32(1, 9)
	pos, ids, key, step, freq := a.I32(n, 1), a.I32(n, 1), a.I32(n, 2), a.I32(1, 1), a.F32(1, c/heads/2)
	seqs := &kernels.Seqs{N: n, Count: 1, MaxQ: n, MaxK: n, QStart: a.I32(2, 1), KStart: a.I32(1, 1), KLen: a.I32(1, 1), Pos: pos}
	s.UploadI32(seqs.QStart, []int32{0, n})
	s.UploadI32(seqs.KLen, []int32{n})
	spec := kernels.AttnSpec{Seqs: seqs, Heads: heads, KVHeads: heads, HeadDim: c / heads, Scale: 0.1}
	drop := kernels.Dropout{Rate: 0.1, Step: step, Key: key}
	none, flat := kernels.Tensor{}, a.F32(1, 1000)
	wire := a.Tensor(dtype.I8, 1, dtype.WireInt8.Bytes(1000))
	for name, op := range map[string]func(){
		"MatMul":        func() { s.MatMul(y, x, w, kernels.MatMul{TB: true, Bias: row}) },
		"MatMul bf16":   func() { s.MatMul(half, x, w, kernels.MatMul{Compute: dtype.BF16}) },
		"Fill":          func() { s.Fill(x, 0.5) },
		"Copy":          func() { s.Copy(y, x) },
		"Copy bf16":     func() { s.Copy(half, x); s.Copy(y, half) },
		"Add":           func() { s.Add(y, x, x) },
		"Add strided":   func() { s.Add(wide, x, x) },
		"Mul":           func() { s.Mul(y, x, row, kernels.Add) },
		"Scale":         func() { s.Scale(y, x, 0.1, kernels.Set) },
		"SumRows":       func() { s.SumRows(row, x, kernels.Add) },
		"RMSNorm":       func() { s.RMSNorm(y, rstd, x, row, 1e-5, 0) },
		"RMSNormBack":   func() { s.RMSNormBack(y, row, z, x, row, rstd, 0, kernels.Add) },
		"LayerNorm":     func() { s.LayerNorm(y, stat, x, row, row, 1e-5) },
		"LayerNormBack": func() { s.LayerNormBack(y, row, row, z, x, row, stat, kernels.Add) },
		"AddRMSNorm":    func() { s.AddRMSNorm(q, y, rstd, x, z, row, 1e-5, 0) },
		"AddLayerNorm":  func() { s.AddLayerNorm(q, half, stat, x, z, row, row, 1e-5) },
		"Wire":          func() { s.EncodeWire(wire, flat, dtype.WireInt8); s.DecodeWire(flat, wire, dtype.WireInt8) },
		"Rope":          func() { s.Rope(y, x, pos, freq, heads, kernels.Rope{HeadDim: c / heads, Scale: 1}) },
		"SwiGLU":        func() { s.SwiGLU(y, x, z) },
		"SwiGLUBack":    func() { s.SwiGLUBack(y, q, z, x, x, kernels.Set) },
		"GELU":          func() { s.GELU(y, x) },
		"GELUBack":      func() { s.GELUBack(y, z, x, kernels.Set) },
		"ReLU":          func() { s.ReLU(y, x); s.ReLUBack(y, z, x, kernels.Add) },
		"Tanh":          func() { s.Tanh(y, x); s.TanhBack(y, z, x, kernels.Add) },
		"OverRoot":      func() { s.OverRoot(row, row, row) },
		"Attention":     func() { s.Attention(y, lse, x, x, x, spec) },
		"AttentionBack": func() { s.AttentionBack(y, z, q, x, x, x, x, x, lse, spec, kernels.Set) },
		"GatherRows":    func() { s.GatherRows(y, x, ids) },
		"ScatterAdd":    func() { s.ScatterAddRows(y, x, ids, ids) },
		"CopyRows":      func() { s.CopyRows(y.SliceRows(0, 1), x.SliceRows(0, 1), ids.SliceRows(0, 1)) },
		"Head": func() {
			s.Head(kernels.Head{H: x, W: w, Target: ids, LogP: rstd, Coef: rstd, DH: y, DW: q.SliceRows(0, c)})
		},
		"Drop":        func() { s.Drop(y, x, drop, kernels.Set) },
		"SumSq":       func() { s.SumSq(one, x, kernels.Add) },
		"WeightedSum": func() { s.WeightedSum(y, x, 0.5, kernels.Add) },
		"AdamW":       func() { s.AdamW(x, y, z, q, hyper) },
		"ArgMax":      func() { s.ArgMax(ids, x) },
		"nothing":     func() { _ = none },
	} {
		got := testing.AllocsPerRun(20, func() {
			op()
			s.Flush()
		})
		if got > 0 {
			t.Errorf("%s allocates %v times", name, got)
		}
		if s.Err() != nil {
			t.Fatal(name, s.Err())
		}
	}
}
