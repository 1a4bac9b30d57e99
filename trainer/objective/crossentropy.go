// Package objective says what is minimised: host functions from per-token numbers of the head to per-token gradients,
// in float64, tested directly against reference values. All functions are pure.
package objective

// Ignore is the target of a position from which nothing is to be learned.
const Ignore = -1

// Sums are what a pass adds up to. They add over passes.
type Sums struct {
	Loss    float64 // Σ loss over target tokens
	Tokens  int64   // target tokens
	Correct int64   // of them, those whose most likely token was the target; only where Best was computed
}

// Add adds o's sums.
func (s *Sums) Add(o Sums) {
	s.Loss += o.Loss
	s.Tokens += o.Tokens
	s.Correct += o.Correct
}

// Targets shifts labels: position t has to predict the label of position t+1. Negative labels (-100) are ignored, and
// so is the label of the first position, which nothing predicts.
func Targets(labels []int32) []int32 { return AppendTargets(make([]int32, 0, len(labels)), labels) }

// AppendTargets appends the targets of a sequence to dst.
func AppendTargets(dst, labels []int32) []int32 {
	for t := range labels {
		target := int32(Ignore)
		if t+1 < len(labels) && labels[t+1] >= 0 {
			target = labels[t+1]
		}
		dst = append(dst, target)
	}
	return dst
}

// CrossEntropy is the objective of supervised fine-tuning: minus the log-probability of each target token, summed. The
// sum is not divided: who adds contributions divides by the number of tokens of all of them.
type CrossEntropy struct{}

// Grad fills d with d(loss)/d(logp).
func (CrossEntropy) Grad(target []int32, d []float32) {
	for i, y := range target {
		d[i] = 0
		if y != Ignore {
			d[i] = -1
		}
	}
}

// Loss adds up the pass. best, the most likely tokens, may be nil.
func (CrossEntropy) Loss(logp []float32, target, best []int32) (s Sums) {
	for i, y := range target {
		if y == Ignore {
			continue
		}
		s.Loss -= float64(logp[i])
		s.Tokens++
		if best != nil && best[i] == y {
			s.Correct++
		}
	}
	return s
}
