package kernels

import "github.com/seed-7b27c88a/shoal/kernels/dtype"

// The exact operations: all backends give the same bits. Every product, sum, quotient and square root is rounded once,
// in the written order, and nothing is fused.

// SumSq is dst F64 (1, 1) = Σ x², or dst + Σ x² in Add mode.
//
// Element i, counted row by row, belongs to lane i mod 16. A lane starts at 0 and adds float64(x)·float64(x), which is
// exact, in rising i. The lanes fold in halves: lane j += lane j+8 for j < 8, then +4, +2, +1; lane 0 is the sum.
func (s *Stream) SumSq(dst, x Tensor, mode Mode) {
	must(isF32(x, -1, -1) && is(dst, dtype.F64, 1, 1), OpSumSq, dst, x)
	s.put(Cmd{Op: OpSumSq, T: [16]Tensor{dst, x}, I: [12]int32{int32(mode)}})
}

// WeightedSum is dst = f·x, or dst + f·x in Add mode. dst may be x.
func (s *Stream) WeightedSum(dst, x Tensor, f float32, mode Mode) {
	must(alike(dst, x), OpWeightedSum, dst, x)
	s.put(Cmd{Op: OpWeightedSum, T: [16]Tensor{dst, x}, I: [12]int32{int32(mode)}, F: [4]float32{f}})
}

// Quotient is dst = x/f. dst may be x.
func (s *Stream) Quotient(dst, x Tensor, f float32) {
	must(alike(dst, x), OpQuotient, dst, x)
	s.put(Cmd{Op: OpQuotient, T: [16]Tensor{dst, x}, F: [4]float32{f}})
}

// AdamW is one step of Loshchilov & Hutter 2019 (arXiv:1711.05101) on weights w with moments m and v. hyper F32 (1, 9)
// is computed in float64 and rounded once by the caller:
//
//	h = [clip, 1-lr·wd, β₁, 1-β₁, β₂, 1-β₂, √(1-β₂ᵗ), ε, lr/(1-β₁ᵗ)]
//
//	g' = g·h0;  w = w·h1;  m = h2·m + h3·g';  v = h4·v + h5·(g'·g');  w = w - h8·(m/(√v/h6 + h7))
//
// w, m and v are updated in place, g stays.
func (s *Stream) AdamW(w, g, m, v, hyper Tensor) {
	must(alike(w, g, m, v) && isF32(hyper, 1, 9), OpAdamW, w, g, m, v, hyper)
	s.put(Cmd{Op: OpAdamW, T: [16]Tensor{w, g, m, v, hyper}})
}
