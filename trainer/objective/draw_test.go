package objective_test

import (
	"math"
	"testing"

	"github.com/seed-7b27c88a/shoal/trainer/objective"
)

// TestDraw: counted draws have the frequencies of the softmax (χ² of 7 degrees of freedom below its 99.9 % quantile).
func TestDraw(t *testing.T) {
	logits := []float32{0, 1, -1, 2, 0.5, float32(math.Inf(-1)), -2, 1.5, 0.1}
	const n = 50000
	sum, count := 0.0, make([]float64, len(logits))
	for _, v := range logits {
		sum += math.Exp(float64(v))
	}
	for i := range int32(n) {
		count[objective.Draw(logits, objective.Uniform(7, uint64(i/100), i/10, i%10))]++
	}
	chi := 0.0
	for i, v := range logits {
		want := n * math.Exp(float64(v)) / sum
		if want == 0 {
			if count[i] != 0 {
				t.Errorf("token %d, which cannot be, was drawn", i)
			}
			continue
		}
		chi += (count[i] - want) * (count[i] - want) / want
	}
	if chi > 24.3 {
		t.Errorf("χ² is %v", chi)
	}
	if objective.Draw(logits, 0) != 0 || objective.Draw(logits, 1) != 8 {
		t.Error("the ends of [0, 1] do not give the first and the last token")
	}
}
