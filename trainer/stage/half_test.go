package stage_test

import (
	"math"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// TestHalf holds gradients of stages that compute in bfloat16 against those in float32. A rounded factor is off by 2⁻⁹ of
// itself at most, and the models are small and their weights large, so that nothing averages out.
func TestHalf(t *testing.T) {
	for name, shape := range shapes {
		for _, adapted := range []bool{false, true} {
			m := openTiny(t, shape)
			trained, a := m.Params, stage.Adapter(nil)
			if adapted {
				l, err := peft.New(m, peft.Config{R: 3, Alpha: 6, All: true}, 5)
				if err != nil {
					t.Fatal(err)
				}
				trained, a = l.Weights(), l
			}
			wide := newStage(t, m, a, trained)
			half := newHalf(t, m, a, trained, wide.W.Cols)
			if adapted {
				scatter(t, wide)
				scatter(t, half)
			}
			want, got := gradient(t, wide), gradient(t, half)
			var d, n float64
			for i := range want {
				d += math.Pow(float64(got[i]-want[i]), 2)
				n += math.Pow(float64(want[i]), 2)
			}
			if off := math.Sqrt(d / n); !(off < 0.05) || off == 0 {
				t.Errorf("%s, adapter %v: the gradient is off by %.2g", name, adapted, off)
			}
			checkValues(t, wide, half)
		}
	}
}

// checkValues: what is trained has its own value, what is frozen one rounded.
func checkValues(t *testing.T, wide, half *stage.Stage) {
	t.Helper()
	for _, p := range []*autograd.Param{wide.Model.Params[0], wide.Train[0]} {
		w, err := wide.Value(p)
		if err != nil {
			t.Fatal(err)
		}
		h, err := half.Value(p)
		if err != nil {
			t.Fatal(err)
		}
		for i := range w {
			if h[i] != w[i] && (p.Off >= 0 || h[i] != dtype.FromBF16(dtype.ToBF16(w[i]))) {
				t.Fatalf("%s holds %v for %v", p.Name, h[i], w[i])
			}
		}
	}
}

func newHalf(t *testing.T, m *model.Model, a stage.Adapter, trained []*autograd.Param, elems int) *stage.Stage {
	t.Helper()
	s, err := stage.NewIn(dtype.BF16, modeltest.Device(t), m, a, trained, elems)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
