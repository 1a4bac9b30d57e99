package autograd_test

import (
	"math"
	"testing"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// TestActivations holds values and slopes against float64.
func TestActivations(t *testing.T) {
	batches := [][]float32{{-80, -7, -1, -0.25}, {-1e-3, 1e-3, 0.25, 1}, {7, 80, 1e-9, -1e-9}}
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	for name, f := range map[string]struct {
		op           func(*autograd.Tape, autograd.Var) autograd.Var
		value, slope func(float64) float64
	}{
		"relu": {(*autograd.Tape).ReLU, func(x float64) float64 { return max(x, 0) }, func(x float64) float64 {
			if x > 0 {
				return 1
			}
			return 0
		}},
		"silu": {(*autograd.Tape).SiLU, func(x float64) float64 { return x * sigmoid(x) },
			func(x float64) float64 { return sigmoid(x) * (1 + x*(1-sigmoid(x))) }},
		"tanh": {(*autograd.Tape).Tanh, math.Tanh, func(x float64) float64 { return 1 - math.Tanh(x)*math.Tanh(x) }},
	} {
		for _, xs := range batches {
			r := newRig(t)
			r.S.Upload(r.door.Value(r.w), xs)
			y := f.op(r.Tape, r.Value(r.w))
			values := r.read(y.T)
			r.back(y, 2, 2, 2, 2)
			g, _ := r.door.Grad(r.w)
			slopes := r.read(g)
			for i, x := range xs {
				if want := f.value(float64(x)); math.Abs(float64(values[i])-want) > 1e-6*max(1, math.Abs(want)) {
					t.Errorf("%s(%v) is %v, want %v", name, x, values[i], want)
				}
				if want := 2 * f.slope(float64(x)); math.Abs(float64(slopes[i])-want) > 2e-6*max(1, math.Abs(want)) {
					t.Errorf("%s'(%v) is %v, want %v", name, x, slopes[i]/2, want/2)
				}
			}
		}
	}
}

// TestMagnitude: a factor of exactly one changes nothing, not even where there is nothing to divide by, and a bias is
// left out of it.
func TestMagnitude(t *testing.T) {
	r := newRig(t)
	mag, bias := vector(r, "mag", 3, 0), vector(r, "bias", 10, 20)
	x := r.value(2, 2, 1, 2, 3, 4)
	y := r.Magnitude(autograd.Const(x), mag, nil, r.value(1, 2, 9, 0))
	r.wants("factors 1 and 0", y.T, 1, 0, 3, 0)
	y = r.Magnitude(autograd.Const(x), mag, bias, r.value(1, 2, 2.25, 0)) // 3/1.5
	r.wants("beside the bias", y.T, -8, 20, -4, 20)
}

// vector is a frozen parameter.
func vector(r *rig, name string, v ...float32) *autograd.Param {
	p := &autograd.Param{Name: name, Rows: 1, Cols: len(v)}
	r.door.Freeze(p, r.value(1, len(v), v...))
	return p
}
