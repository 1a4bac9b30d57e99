package trainer

import (
	"math/bits"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// LossScale is what the loss of a token is multiplied by before it is differentiated in fp16, whose numbers end at 65504
// and lose their bits below 6e-5 (Micikevicius et al. 2017, arXiv:1710.03740). Gradients are divided by it before
// anything else is done to them. It halves with each step that was skipped because a number was not finite, and doubles
// after 2000 steps without such a one. So it is a function of the committed steps alone, and all members have the same.
//
// The zero LossScale is that of a job's first step, and of all steps of other types.
type LossScale struct {
	Factor  float64 // a power of two; 0: none, or the first
	Good    int     // steps since it was changed
	Skipped int     // steps skipped so far, for any reason
}

const (
	firstScale = 1 << 16         // of the mean loss of a step, as usual
	leastScale = 1.0 / (1 << 24) // below it the loss itself is what is not finite
	mostScale  = 1 << 32
	goodSteps  = 2000
	rowTokens  = 512 // of a row, where the spec does not bound it
)

// firstFactor is the scale of a job's first step. Losses of tokens are summed here and divided later, so it is the usual
// one of the mean, divided by about as many tokens as a step has.
func firstFactor(s *job.Spec) float64 {
	if s.DType != job.FP16 {
		return 0
	}
	tokens := s.SequenceLen
	if tokens == 0 {
		tokens = rowTokens
	}
	return max(firstScale/float64(uint64(1)<<bits.Len64(uint64(tokens)*uint64(s.GlobalBatchSize)-1)), leastScale)
}

// After is the scale of the step after r.
func (l LossScale) After(r StepReport) LossScale {
	if l.Factor == 0 {
		l.Factor = r.LossScale
	}
	if r.Skipped {
		l.Skipped++
	}
	switch {
	case l.Factor == 0 || r.Tokens == 0: // nothing was scaled, or nothing was there to scale
	case r.Skipped:
		l.Factor, l.Good = max(l.Factor/2, leastScale), 0
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

// factor is the scale of the next step.
func (t *Trainer) factor() float64 {
	if t.scale.Factor == 0 {
		return firstFactor(t.spec)
	}
	return t.scale.Factor
}

// enlarge has the stage multiply the loss.
func (t *Trainer) enlarge() {
	t.stage.LossScale = 1
	if f := t.factor(); f != 0 {
		t.stage.LossScale = float32(f)
	}
}

// reduce divides a gradient by what the loss was multiplied by, which is exact.
func (t *Trainer) reduce(g kernels.Tensor) {
	if f := t.stage.LossScale; f != 1 {
		t.stage.Stream.WeightedSum(g, g, 1/f, kernels.Set)
	}
}
