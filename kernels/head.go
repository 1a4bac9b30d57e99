package kernels

import "github.com/seed-7b27c88a/shoal/kernels/dtype"

// Head runs one or both phases of the language-model head, see the type. A target at or above V is an error of the
// device.
func (s *Stream) Head(o Head) {
	n, v, c := o.H.Rows, o.W.Rows, o.H.Cols
	must(isReal(o.H, -1, -1) && isReal(o.W, -1, c) && computes(o.Compute) && optF32(o.Bias, 1, v) && is(o.Target, dtype.I32, n, 1), OpHead, o.H, o.W, o.Bias, o.Target)
	must(optF32(o.LogP, n, 1) && optF32(o.LSE, n, 1) && optF32(o.Entropy, n, 1) && optF32(o.Coef, n, 1) &&
		(o.Best.None() || is(o.Best, dtype.I32, n, 1)), OpHead, o.H, o.LogP, o.LSE, o.Entropy, o.Best, o.Coef)
	must((o.DH.None() || isReal(o.DH, n, c)) && optF32(o.DW, v, c) && optF32(o.DBias, 1, v), OpHead, o.H, o.W, o.DH, o.DW, o.DBias)
	must(o.Coef.None() || !o.LogP.None() || !o.LSE.None(), OpHead, o.Coef, o.LogP, o.LSE)
	scale := o.LogitScale
	if scale == 0 {
		scale = 1
	}
	s.put(Cmd{Op: OpHead, T: [16]Tensor{o.H, o.W, o.Bias, o.Target, o.LogP, o.LSE, o.Entropy, o.Best, o.Coef, o.DH, o.DW, o.DBias},
		I: [12]int32{int32(o.ModeH), int32(o.Compute), flag(o.SetW)}, F: [4]float32{o.Softcap, scale}})
}
