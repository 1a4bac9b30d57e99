package kernels

import "github.com/seed-7b27c88a/shoal/kernels/dtype"

// Rope rotates each head's halves: with i < HeadDim/2 and angle pos·freq[i], the pair (x[i], x[i+HeadDim/2]) turns by
// the angle (Su et al. 2021, arXiv:2104.09864, half-split form). pos is I32 (N, 1), freq F32 (1, HeadDim/2). y may
// be x in Set mode.
func (s *Stream) Rope(y, x, pos, freq Tensor, heads int, o Rope) {
	must(alikeReal(y, x) && is(pos, dtype.I32, x.Rows, 1) && o.HeadDim%2 == 0 && x.Cols == heads*o.HeadDim && isF32(freq, 1, o.HeadDim/2),
		OpRope, y, x, pos, freq)
	s.put(Cmd{Op: OpRope, T: [16]Tensor{y, x, pos, freq},
		I: [12]int32{int32(heads), int32(o.HeadDim), flag(o.Inverse), int32(o.Mode)}, F: [4]float32{o.Scale}})
}

// Attention is o (N, Heads·HeadDim) = softmax(q·kᵀ·Scale)·v per head; lse (N, Heads) keeps the logarithm of each
// row's sum for backward. Every query sees at least its own key.
func (s *Stream) Attention(o, lse, q, k, v Tensor, spec AttnSpec) {
	must(spec.matches(q, k, v, lse) && alikeReal(o, q), OpAttention, o, lse, q, k, v, spec.Seqs.QStart, spec.Seqs.KStart, spec.Seqs.KLen,
		spec.PrefixK, spec.PrefixV)
	s.put(Cmd{Op: OpAttention, T: [16]Tensor{o, lse, q, k, v, spec.Seqs.QStart, spec.Seqs.KStart, spec.Seqs.KLen,
		spec.PrefixK, spec.PrefixV}, I: spec.ints(), F: [4]float32{spec.Scale, spec.Softcap}})
}

// AttentionBack gives the gradients of q, k and v in one mode, and of the prefix where the spec asks for it. In Set
// mode all rows of dk and dv are written, also those that no sequence reads.
func (s *Stream) AttentionBack(dq, dk, dv, do, q, k, v, o, lse Tensor, spec AttnSpec, mode Mode) {
	must(spec.matches(q, k, v, lse) && alikeReal(q, dq, do, o) && alikeReal(k, dk, dv), OpAttentionBack, dq, dk, dv, do, q, k, v, o, lse)
	must(spec.DPrefixK.None() == spec.DPrefixV.None() && (spec.DPrefixK.None() || alike(spec.PrefixK, spec.DPrefixK, spec.DPrefixV)),
		OpAttentionBack, spec.PrefixK, spec.PrefixV, spec.DPrefixK, spec.DPrefixV)
	ints := spec.ints()
	ints[6] = int32(mode)
	s.put(Cmd{Op: OpAttentionBack, T: [16]Tensor{dq, dk, dv, do, q, k, v, o, lse, spec.Seqs.QStart, spec.Seqs.KStart, spec.Seqs.KLen,
		spec.PrefixK, spec.PrefixV, spec.DPrefixK, spec.DPrefixV}, I: ints, F: [4]float32{spec.Scale, spec.Softcap}})
}

func (a *AttnSpec) ints() [12]int32 {
	return [12]int32{int32(a.Heads), int32(a.KVHeads), int32(a.HeadDim), int32(a.Window), int32(a.Seqs.MaxQ), int32(a.Seqs.MaxK), 0, int32(a.Compute)}
}

// matches reports whether the spec fits the operands. The starts and lengths themselves are in device memory; backends
// check them when they read them.
func (a *AttnSpec) matches(q, k, v, lse Tensor) bool {
	n, d := a.Seqs.Count, a.HeadDim
	return computes(a.Compute) && a.Scale >= 0 && a.KVHeads > 0 && a.Heads%a.KVHeads == 0 && isReal(q, a.Seqs.N, a.Heads*d) && isReal(k, -1, a.KVHeads*d) && alikeReal(k, v) &&
		isF32(lse, a.Seqs.N, a.Heads) && is(a.Seqs.QStart, dtype.I32, n+1, 1) && is(a.Seqs.KStart, dtype.I32, n, 1) &&
		is(a.Seqs.KLen, dtype.I32, n, 1) && a.PrefixK.None() == a.PrefixV.None() &&
		(a.PrefixK.None() || isF32(a.PrefixK, -1, k.Cols) && alike(a.PrefixK, a.PrefixV))
}
