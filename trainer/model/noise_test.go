package model

import (
	"math"
	"slices"
	"testing"
)

// draws lays sequences out and returns the noise of each token.
func draws(n Noise, step uint64, d int, seqs ...Sequence) [][]float32 {
	var h laidOut
	h.layOut(seqs)
	h.step = step
	h.noise = make([]float32, len(h.ids)*d)
	h.draw(n, d)
	return slices.Collect(slices.Chunk(h.noise, d))
}

// TestNoise: even over ±alpha/√(L·d), a function of seed, step, sample and place alone.
func TestNoise(t *testing.T) {
	const d = 65
	n := Noise{Alpha: 5, Seed: 42}
	long, short := Sequence{IDs: make([]int32, 300), Key: 7}, Sequence{IDs: make([]int32, 20), Key: 7, Offset: 300}
	got := draws(n, 3, d, long, short)
	for i, part := range [][][]float32{got[:300], got[300:]} {
		bound := 5 / math.Sqrt(float64(len(part)*d))
		var sum, squares float64
		for _, x := range slices.Concat(part...) {
			if math.Abs(float64(x)) > bound*(1+1e-6) {
				t.Fatalf("sequence %d: %v is outside ±%v", i, x, bound)
			}
			sum += float64(x)
			squares += float64(x) * float64(x)
		}
		k := float64(len(part) * d)
		if mean, variance := sum/k/bound, squares/k/bound/bound; math.Abs(mean) > 4/math.Sqrt(3*k) || math.Abs(variance-1.0/3) > 4*math.Sqrt(4.0/45/k) {
			t.Errorf("sequence %d: mean %.4f, variance %.4f of numbers even over ±1", i, mean, variance)
		}
	}
	other := draws(n, 3, d, Sequence{IDs: make([]int32, 9), Key: 1}, short, long)
	if !slices.Equal(other[9], got[300]) || !slices.Equal(other[29], got[0]) || !slices.Equal(other[328], got[299]) {
		t.Error("noise depends on what else is in the pass")
	}
	for name, x := range map[string][]float32{
		"another token": got[1], "the same place of another sequence": got[300], "another sample": other[0],
		"another step": draws(n, 4, d, long)[0], "another seed": draws(Noise{5, 43}, 3, d, long)[0],
	} {
		if slices.Equal(x, got[0]) || x[0] == got[0][0] {
			t.Errorf("%s has the same noise", name)
		}
	}
	if half := draws(Noise{2.5, 42}, 3, d, long)[0][0]; half*2 != got[0][0] {
		t.Errorf("half of alpha gives %v, not half of %v", half, got[0][0])
	}
}

// TestNoiseGolden pins the draws: they are part of what every node has to compute alike.
func TestNoiseGolden(t *testing.T) {
	got := draws(Noise{Alpha: math.Sqrt(3), Seed: 42}, 1, 3, Sequence{IDs: make([]int32, 1), Key: 2, Offset: 5})[0]
	if !slices.Equal(got, goldenNoise) {
		t.Errorf("%v, want %v", got, goldenNoise)
	}
}

// Computed with an independent implementation (Python) of the definition in Noise's comment, where alpha/√(L·d) is 1.
var goldenNoise = []float32{-0.5454217195510864, 0.14864778518676758, 0.36029744148254395}
