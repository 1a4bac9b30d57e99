package trainer

import "math"

// Watch follows measurements of held-out rows: which was best, and whether to go on. Its state is what JSON carries.
type Watch struct {
	Step  uint64  `json:"step"` // of the best; meaningless while Taken is 0
	Loss  float64 `json:"loss"` // held out
	Taken int     `json:"taken"`
	Worse int     `json:"worse"` // measurements since the best
}

// Take tells whether r is the best so far, and whether after patience measurements without a better one it is enough;
// patience 0 never is. What was measured before training does not count against it.
func (w *Watch) Take(r EvalReport, patience int) (better, enough bool) {
	loss := r.Loss
	if math.IsNaN(loss) {
		loss = math.MaxFloat64
	}
	better = w.Taken == 0 || loss < w.Loss
	w.Taken++
	if better {
		w.Step, w.Loss, w.Worse = r.Step, loss, 0
		return true, false
	}
	w.Worse++
	return false, patience > 0 && w.Worse >= patience
}
