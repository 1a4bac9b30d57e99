package job

import "math"

// Samples is how many rows the job trains on in all, each time counted, when the data has rows rows. The last step
// takes what is left of them. Like all of this file it wants a spec that Validate has completed.
func (s *Spec) Samples(rows uint64) uint64 {
	if s.MaxSteps > 0 {
		return uint64(s.MaxSteps) * uint64(s.GlobalBatchSize)
	}
	n := min(float64(rows)*s.NumEpochs, 1<<53) // above, a float64 no longer counts rows
	// 1.1 epochs of 1000 rows are 1100 samples, whatever the last bit of the product says.
	if r := math.Round(n); math.Abs(n-r) <= 1e-9*r {
		return uint64(r)
	}
	return uint64(math.Ceil(n))
}

// Steps is the number of optimizer steps: ceil(rows·epochs / global_batch_size), or max_steps.
func (s *Spec) Steps(rows uint64) uint64 {
	b := uint64(max(s.GlobalBatchSize, 1))
	return (s.Samples(rows) + b - 1) / b
}

// Batch is the half-open range of the sample stream that step t (from 1) trains on.
func (s *Spec) Batch(rows, t uint64) (lo, hi uint64) {
	b, n := uint64(s.GlobalBatchSize), s.Samples(rows)
	return min((t-1)*b, n), min(t*b, n)
}

// LR is the learning rate of step t (from 1) of steps, in float64.
func (s *Spec) LR(t, steps uint64) float64 {
	return s.Optimizer.LR * s.LRScheduler.Factor(t, steps)
}

// Factor is the schedule at step t (from 1) of steps, between 0 and 1; Scheduler has the formulas.
func (c Scheduler) Factor(t, steps uint64) float64 {
	w, m := c.warmup(steps), c.MinLRRatio
	if t <= w {
		return float64(t) / float64(w)
	}
	t = min(t, max(steps, w+1)) // past the end: the last value
	span := float64(max(steps, w+1) - w)
	switch c.Name {
	case Linear:
		return m + (1-m)*(1-float64(t-1-w)/span)
	case Cosine:
		return m + (1-m)*(1+math.Cos(math.Pi*float64(t-w)/span))/2
	case WSD:
		if d := c.decay(steps, w); t+d > steps && d > 0 {
			return m + (1-m)*(1-float64(t+d-1-steps)/float64(d))
		}
	}
	return 1
}

// warmup is the number of warm-up steps.
func (c Scheduler) warmup(steps uint64) uint64 {
	if c.WarmupRatio > 0 {
		return share(c.WarmupRatio, steps)
	}
	return uint64(c.WarmupSteps)
}

// decay is the number of steps at the end of wsd in which the rate falls; warm-up comes first.
func (c Scheduler) decay(steps, warmup uint64) uint64 {
	return min(share(c.DecayRatio, steps), steps-min(warmup, steps))
}

// share is a part of so many steps, rounded up; a product that is whole but for its last bits counts as whole.
func share(ratio float64, steps uint64) uint64 {
	x := ratio * float64(steps)
	if r := math.Round(x); math.Abs(x-r) <= 1e-9*r {
		return uint64(r)
	}
	return uint64(math.Ceil(x))
}
