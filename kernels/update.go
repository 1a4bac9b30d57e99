package kernels

import "github.com/seed-7b27c88a/shoal/kernels/dtype"

// The updates of optimizers, exact operations like AdamW. hyper is one row, F32, computed in float64 and rounded once
// by the caller. Weights and state are updated in place, the gradient g stays.

// Lion is one step of Chen et al. 2023 (arXiv:2302.06675) on weights w with momentum m:
//
//	h = [clip, 1-lr·wd, β₁, 1-β₁, β₂, 1-β₂, lr]
//
//	g' = g·h0;  c = h2·m + h3·g';  m = h4·m + h5·g';  w = w·h1 - h6·sign(c)
func (s *Stream) Lion(w, g, m, hyper Tensor) {
	must(alike(w, g, m) && isF32(hyper, 1, 7), OpLion, w, g, m, hyper)
	s.put(Cmd{Op: OpLion, T: [16]Tensor{w, g, m, hyper}})
}

// SGD is one step of gradient descent. Without a momentum buffer m:
//
//	h = [clip, wd, lr];  w = w - h2·(g·h0 + w·h1)
//
// and with it, a = 0 and b = 1, or a = 1 and b = μ for Nesterov's form as PyTorch has it (Sutskever et al. 2013):
//
//	h = [clip, wd, lr, μ, a, b];  g' = g·h0 + w·h1;  m = h3·m + g';  w = w - h2·(h4·g' + h5·m)
func (s *Stream) SGD(w, g, m, hyper Tensor) {
	n := 6
	if m.None() {
		n = 3
	}
	must(alike(w, g) && optF32(m, w.Rows, w.Cols) && isF32(hyper, 1, n), OpSGD, w, g, m, hyper)
	s.put(Cmd{Op: OpSGD, T: [16]Tensor{w, g, m, hyper}})
}

// Sophia is one step of Liu et al. 2023 (arXiv:2305.14342) on weights w with momentum m and curvature c:
//
//	h = [clip, 1-lr·wd, β₁, 1-β₁, lr, ρ, ε]
//
//	m = h2·m + h3·(g·h0);  w = w·h1 - sign(m)·(h4·min(|m|/(h5·c + h6), 1))
func (s *Stream) Sophia(w, g, m, c, hyper Tensor) {
	must(alike(w, g, m, c) && isF32(hyper, 1, 7), OpSophia, w, g, m, c, hyper)
	s.put(Cmd{Op: OpSophia, T: [16]Tensor{w, g, m, c, hyper}})
}

// AverageSquares is v = h0·v + h1·(g·g).
func (s *Stream) AverageSquares(v, g, hyper Tensor) {
	must(alike(v, g) && isF32(hyper, 1, 2), OpAverageSquares, v, g, hyper)
	s.put(Cmd{Op: OpAverageSquares, T: [16]Tensor{v, g, hyper}})
}

// Adafactor is one step of Shazeer and Stern 2018 (arXiv:1804.04235) without momentum on a matrix w (R, C) whose second
// moments are kept as means of rows r (1, R) and of columns c (1, C):
//
//	h = [clip, 1-lr·wd, β, 1-β, ε, d, lr]
//
//	q = (g·h0)² + h4;  r = h2·r + h3·(Σ q over the row / C);  c = h2·c + h3·(Σ q over the column / R)
//	u = ((g·h0)·a)·b  with a = 1/√(r/mean r) and b = 1/√c, each in float64 and rounded once
//	w = w·h1 + f·u  with f = -h6/max(1, √(mean u²)/h5) in float64, rounded once
//
// The sum over a row is that of 16 lanes, as in SumSq but in float32; over a column it is one chain in rising row; that
// of u² is SumSq row by row, the rows added in rising order; the mean of r is one chain in float64.
//
// Without c, r is of w's shape and has second moments of its own for each element: r = h2·r + h3·q, b = 1/√r, a = 1.
func (s *Stream) Adafactor(w, g, r, c, hyper Tensor) {
	must(alike(w, g) && isF32(hyper, 1, 7), OpAdafactor, w, g, r, c, hyper)
	if c.None() {
		must(alike(w, r), OpAdafactor, w, r)
	} else {
		must(isF32(r, 1, w.Rows) && isF32(c, 1, w.Cols), OpAdafactor, w, r, c)
	}
	s.put(Cmd{Op: OpAdafactor, T: [16]Tensor{w, g, r, c, hyper}})
}

// AdamW8 is AdamW with moments in the dynamic 8 bit form of kernels/dtype: m with signs, v without, (1, N) bytes of type
// I8, and their scales (1, blocks of 256). All operands are one row. Moments are decoded, stepped as in AdamW, which
// updates w with them as they are then, and encoded.
func (s *Stream) AdamW8(w, g, m, v, mScale, vScale, hyper Tensor) {
	must(alike(w, g) && w.Rows == 1 && coded(m, mScale, w.Cols) && coded(v, vScale, w.Cols) && isF32(hyper, 1, 9),
		OpAdamW8, w, g, m, v, mScale, vScale, hyper)
	s.put(Cmd{Op: OpAdamW8, T: [16]Tensor{w, g, m, v, mScale, vScale, hyper}})
}

// Encode8 stores x (1, N) in the dynamic 8 bit form, with signs or without.
func (s *Stream) Encode8(code, scale, x Tensor, signed bool) {
	must(isF32(x, 1, -1) && coded(code, scale, x.Cols), OpEncode8, code, scale, x)
	s.put(Cmd{Op: OpEncode8, T: [16]Tensor{code, scale, x}, I: [12]int32{flag(signed)}})
}

// Decode8 is what Encode8 stored: value·scale, rounded once; no zero is negative.
func (s *Stream) Decode8(x, code, scale Tensor, signed bool) {
	must(isF32(x, 1, -1) && coded(code, scale, x.Cols), OpDecode8, x, code, scale)
	s.put(Cmd{Op: OpDecode8, T: [16]Tensor{x, code, scale}, I: [12]int32{flag(signed)}})
}

// coded reports whether code and scale are n elements in the dynamic 8 bit form.
func coded(code, scale Tensor, n int) bool {
	return is(code, dtype.I8, 1, n) && isF32(scale, 1, dtype.Blocks(n, dtype.DynamicBlock))
}
