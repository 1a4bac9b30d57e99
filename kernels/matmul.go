package kernels

import "github.com/seed-7b27c88a/shoal/kernels/dtype"

// MatMul is c (M, N) = op(a) · op(b) (+ Bias) (+ c in Add mode). Operands and c are F32 or BF16 in any mixture.
//
// The sum over k is one chain of fused multiply-adds in float32 from the first k to the last that starts at c + Bias,
// so a CPU gives the same bits with any kernel; a BF16 c is rounded once, at the end. b may also be I8 or NF4 with
// scales (Tensor.Q): its elements are what kernels/dtype makes of them, bit for bit. With Compute BF16 the elements of
// a and b are rounded to it before they are multiplied. Then processors with an instruction for pairs of bfloat16 give
// the same bits too, but for numbers below 2⁻¹²⁶: that instruction takes operands, and leaves sums, of this size as
// zero. With Compute F16 they are rounded to binary16, where what is above 65504 is infinite, and multiplied as float32.
func (s *Stream) MatMul(c, a, b Tensor, o MatMul) {
	m, k := a.Rows, a.Cols
	if o.TA {
		m, k = k, m
	}
	kb, n := b.Rows, b.Cols
	if o.TB {
		kb, n = n, kb
	}
	must(isReal(a, -1, -1) && (isReal(b, -1, -1) || isQuantized(b)) && k == kb && isReal(c, m, n) && optF32(o.Bias, 1, n) && computes(o.Compute),
		OpMatMul, c, a, b, o.Bias)
	var scales Tensor
	if b.Q != nil {
		scales = b.Q.Absmax
	}
	s.put(Cmd{Op: OpMatMul, T: [16]Tensor{c, a, b, o.Bias, scales}, I: [12]int32{flag(o.TA), flag(o.TB), int32(o.Mode), int32(o.Compute)}})
}

// computes reports whether products can be computed in the type.
func computes(t dtype.Type) bool { return t == dtype.F32 || t == dtype.BF16 || t == dtype.F16 }

// isQuantized reports whether t is I8 or NF4 and has its scales.
func isQuantized(t Tensor) bool {
	return (is(t, dtype.I8, -1, -1) || is(t, dtype.NF4, -1, -1)) && t.Q.covers(t)
}
