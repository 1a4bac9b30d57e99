package trainer_test

import (
	"math"
	"testing"

	"github.com/seed-7b27c88a/shoal/trainer"
)

func TestLossScale(t *testing.T) {
	overflow := trainer.StepReport{Skipped: true, Tokens: 5, LossScale: 65536}
	empty, good := trainer.StepReport{Skipped: true}, trainer.StepReport{Tokens: 5}
	steps := []trainer.StepReport{overflow, good, overflow, empty}
	for range 1999 {
		steps = append(steps, good)
	}
	for _, tc := range []struct {
		steps   int
		want    float64
		skipped int
	}{{0, 0, 0}, {1, 32768, 1}, {2, 32768, 1}, {3, 16384, 2}, {4, 16384, 3}, {2003, 16384, 3}} {
		if l := trainer.ScaleAfter(steps[:tc.steps]); l.Factor != tc.want || l.Skipped != tc.skipped {
			t.Errorf("after %d steps: %+v, want %v", tc.steps, l, tc)
		}
	}
	l := trainer.ScaleAfter(append(steps, good))
	if l.Factor != 32768 || l.Good != 0 {
		t.Errorf("after 2000 good steps: %+v", l)
	}
	if l := trainer.ScaleAfter([]trainer.StepReport{good, {Skipped: true, Tokens: 5}}); l != (trainer.LossScale{Skipped: 1}) {
		t.Errorf("of another type: %+v", l)
	}
	for range 100 {
		l = l.After(overflow)
	}
	if l.Factor <= 0 || math.Log2(l.Factor) != math.Trunc(math.Log2(l.Factor)) {
		t.Errorf("after 100 overflows: %+v", l)
	}
}
