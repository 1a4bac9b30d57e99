package generate

import (
	"math"
	"testing"
)

func TestArgMax(t *testing.T) {
	nan := float32(math.NaN())
	for _, tc := range []struct {
		x    []float32
		want int
	}{{[]float32{1, 3, 3, 2}, 1}, {[]float32{nan, 1, 2}, 2}, {[]float32{5, nan}, 0}, {[]float32{nan, nan}, 0}} {
		if got := argMax(tc.x); got != tc.want {
			t.Errorf("%v: %d, want %d", tc.x, got, tc.want)
		}
	}
}

// TestSample: tokens come as often as softmax says, and counters decide alone.
func TestSample(t *testing.T) {
	logits := []float32{0, float32(math.Log(2)), float32(math.NaN()), float32(math.Log(5)), float32(math.Inf(-1))}
	counts := make([]int, len(logits))
	const n = 8000
	for i := range n {
		counts[pick(logits, Options{Temperature: 1, Seed: 3}, i)]++
	}
	for i, want := range []float64{1. / 8, 2. / 8, 0, 5. / 8, 0} {
		if got := float64(counts[i]) / n; math.Abs(got-want) > 0.02 {
			t.Errorf("token %d comes %.3f of the time, want %.3f", i, got, want)
		}
	}
	if a, b := uniform(1, 2), uniform(1, 2); a != b {
		t.Error("a draw does not repeat")
	}
	if uniform(1, 2) == uniform(1, 3) || uniform(1, 2) == uniform(2, 2) {
		t.Error("draws do not differ")
	}
}

// TestSampleEdges: the ends of the interval and hopeless logits still give a token.
func TestSampleEdges(t *testing.T) {
	if got := sample([]float32{0, 0}, 1, 0); got != 0 {
		t.Errorf("u = 0 gives %d", got)
	}
	if got := sample([]float32{0, 0}, 1, math.Nextafter(1, 0)); got != 1 {
		t.Errorf("u just below 1 gives %d", got)
	}
	nan := float32(math.NaN())
	sample([]float32{nan, nan}, 1, 0.5)
	sample([]float32{float32(math.Inf(1)), 0}, 1, 0.5)
	sample([]float32{1, 0}, 1e-300, 0.5)
}
