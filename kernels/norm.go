package kernels

// RMSNorm is y = x·rstd·(offset+w) with rstd = 1/√(mean(x²)+eps) per row (Zhang & Sennrich 2019, arXiv:1910.07467);
// rstd (N, 1) is kept for backward. offset is 0, or 1 for models that store w-1. y may be x.
func (s *Stream) RMSNorm(y, rstd, x, w Tensor, eps, offset float32) {
	must(alikeReal(y, x) && isF32(rstd, x.Rows, 1) && isF32(w, 1, x.Cols), OpRMSNorm, y, rstd, x, w)
	s.put(Cmd{Op: OpRMSNorm, T: [16]Tensor{y, rstd, x, w}, F: [4]float32{eps, offset}})
}

// RMSNormBack gives the gradients of x in mode mx and of w, which is optional and always added to. dx may be dy in
// Set mode.
func (s *Stream) RMSNormBack(dx, dw, dy, x, w, rstd Tensor, offset float32, mx Mode) {
	must(alikeReal(dx, dy, x) && optF32(dw, 1, x.Cols) && isF32(w, 1, x.Cols) && isF32(rstd, x.Rows, 1),
		OpRMSNormBack, dx, dw, dy, x, w, rstd)
	s.put(Cmd{Op: OpRMSNormBack, T: [16]Tensor{dx, dw, dy, x, w, rstd}, I: [12]int32{int32(mx)}, F: [4]float32{offset}})
}

// LayerNorm is y = (x-mean)·rstd·w + b per row (Ba et al. 2016, arXiv:1607.06450); stat (N, 2) keeps mean and rstd.
// b is optional. y may be x.
func (s *Stream) LayerNorm(y, stat, x, w, b Tensor, eps float32) {
	must(alikeReal(y, x) && isF32(stat, x.Rows, 2) && isF32(w, 1, x.Cols) && optF32(b, 1, x.Cols), OpLayerNorm, y, stat, x, w, b)
	s.put(Cmd{Op: OpLayerNorm, T: [16]Tensor{y, stat, x, w, b}, F: [4]float32{eps}})
}

// LayerNormBack gives the gradients of x in mode mx and of w and b, which are optional and always added to. dx may be
// dy in Set mode.
func (s *Stream) LayerNormBack(dx, dw, db, dy, x, w, stat Tensor, mx Mode) {
	must(alikeReal(dx, dy, x) && optF32(dw, 1, x.Cols) && optF32(db, 1, x.Cols) && isF32(w, 1, x.Cols) && isF32(stat, x.Rows, 2),
		OpLayerNormBack, dx, dw, db, dy, x, w, stat)
	s.put(Cmd{Op: OpLayerNormBack, T: [16]Tensor{dx, dw, db, dy, x, w, stat}, I: [12]int32{int32(mx)}})
}

// AddRMSNorm is sum = a + b and y = RMSNorm(sum) in one pass over memory: what a residual branch ends with and the next
// begins with. The bits are those of Add and then RMSNorm. sum may be a or b.
func (s *Stream) AddRMSNorm(sum, y, rstd, a, b, w Tensor, eps, offset float32) {
	must(alikeReal(sum, y, a, b) && isF32(rstd, a.Rows, 1) && isF32(w, 1, a.Cols), OpAddRMSNorm, sum, y, rstd, a, b, w)
	s.put(Cmd{Op: OpAddRMSNorm, T: [16]Tensor{sum, y, rstd, a, b, w}, F: [4]float32{eps, offset}})
}

// AddLayerNorm is sum = a + b and y = LayerNorm(sum) likewise. bias is optional.
func (s *Stream) AddLayerNorm(sum, y, stat, a, b, w, bias Tensor, eps float32) {
	must(alikeReal(sum, y, a, b) && isF32(stat, a.Rows, 2) && isF32(w, 1, a.Cols) && optF32(bias, 1, a.Cols), OpAddLayerNorm, sum, y, stat, a, b, w, bias)
	s.put(Cmd{Op: OpAddLayerNorm, T: [16]Tensor{sum, y, stat, a, b, w, bias}, F: [4]float32{eps}})
}
