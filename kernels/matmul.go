package kernels

// MatMul is c (M, N) = op(a) · op(b) (+ Bias) (+ c in Add mode). The sum over k is one chain of fused multiply-adds
// from the first k to the last that starts at c + Bias, so a CPU gives the same bits with any kernel.
func (s *Stream) MatMul(c, a, b Tensor, o MatMul) {
	m, k := a.Rows, a.Cols
	if o.TA {
		m, k = k, m
	}
	kb, n := b.Rows, b.Cols
	if o.TB {
		kb, n = n, kb
	}
	must(isF32(a, -1, -1) && isF32(b, -1, -1) && k == kb && isF32(c, m, n) && optF32(o.Bias, 1, n), OpMatMul, c, a, b, o.Bias)
	s.put(Cmd{Op: OpMatMul, T: [16]Tensor{c, a, b, o.Bias}, I: [12]int32{flag(o.TA), flag(o.TB), int32(o.Mode)}})
}
