package objective

import (
	"slices"
	"testing"
)

func TestTargetsShift(t *testing.T) {
	got := Targets([]int32{7, -100, 5, 6})
	if want := []int32{Ignore, 5, 6, Ignore}; !slices.Equal(got, want) {
		t.Fatalf("targets %v, want %v", got, want)
	}
	if got := Targets([]int32{3}); !slices.Equal(got, []int32{Ignore}) {
		t.Fatalf("one token has target %v", got)
	}
}

func TestCrossEntropy(t *testing.T) {
	target := []int32{2, Ignore, 0}
	var ce CrossEntropy
	s := ce.Loss([]float32{-0.5, 0, -1.5}, target, []int32{2, 0, 1})
	if s != (Sums{Loss: 2, Tokens: 2, Correct: 1}) {
		t.Fatalf("sums %+v", s)
	}
	d := []float32{9, 9, 9}
	ce.Grad(target, d)
	if !slices.Equal(d, []float32{-1, 0, -1}) {
		t.Fatalf("gradient %v", d)
	}
}
