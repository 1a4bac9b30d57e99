package stage

// enlarge multiplies gradients of the loss by LossScale.
func (s *Stage) enlarge(coef []float32) {
	if s.LossScale == 0 || s.LossScale == 1 {
		return
	}
	for i := range coef {
		coef[i] *= s.LossScale
	}
}
