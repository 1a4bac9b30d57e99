package trainer

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// LossScale is what the loss is multiplied by before it is differentiated in fp16, whose numbers end at 65504 and lose
// their bits below 6e-5 (Micikevicius et al. 2017, arXiv:1710.03740). Gradients are divided by it before anything else is
// done to them. It halves with each step that was skipped because a number was not finite, and doubles after 2000 steps
// without such a one. So it is a function of the committed steps alone, and all members have the same.
//
// The zero LossScale is that of a job's first step.
type LossScale struct {
	Factor  float64 // a power of two; 0: the first
	Good    int     // steps since it was changed
	Skipped int     // steps skipped so far, for any reason
}

const (
	firstScale = 1 << 16
	leastScale = 1.0 / (1 << 24) // below it the loss itself is what is not finite
	mostScale  = 1 << 32
	goodSteps  = 2000
)

// Now is the factor.
func (l LossScale) Now() float64 {
	if l.Factor == 0 {
		return firstScale
	}
	return l.Factor
}

// After is the scale of the step after r.
func (l LossScale) After(r StepReport) LossScale {
	l.Factor = l.Now()
	if r.Skipped {
		l.Skipped++
	}
	switch {
	case r.Skipped && r.Tokens > 0:
		l.Factor, l.Good = max(l.Factor/2, leastScale), 0
	case r.Skipped: // had nothing to learn from
	default:
		if l.Good++; l.Good == goodSteps {
			l.Factor, l.Good = min(2*l.Factor, mostScale), 0
		}
	}
	return l
}

// ScaleAfter is the scale after all steps from the first on.
func ScaleAfter(steps []StepReport) (l LossScale) {
	for _, r := range steps {
		l = l.After(r)
	}
	return l
}

// enlarge has the stage multiply the loss.
func (t *Trainer) enlarge() {
	t.stage.LossScale = 1
	if t.spec.DType == job.FP16 {
		t.stage.LossScale = float32(t.scale.Now())
	}
}

// reduce divides a gradient by what the loss was multiplied by, which is exact.
func (t *Trainer) reduce(g kernels.Tensor) {
	if f := t.stage.LossScale; f != 1 {
		t.stage.Stream.WeightedSum(g, g, 1/f, kernels.Set)
	}
}
