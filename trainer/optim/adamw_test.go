package optim_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/optim"
)

var (
	weight = &autograd.Param{Name: "h.0.attn.weight", Kind: autograd.Weight, Rows: 3, Cols: 5, Off: 0}
	ln     = &autograd.Param{Name: "h.0.ln_1.weight", Kind: autograd.Norm, Rows: 1, Cols: 7, Off: 15}
	bias   = &autograd.Param{Name: "h.0.attn.bias", Kind: autograd.Bias, Rows: 1, Cols: 4, Off: 22}
	params = []*autograd.Param{weight, ln, bias}
)

const elems = 26

func TestSegments(t *testing.T) {
	for _, tc := range []struct {
		noDecay []string
		want    []optim.Segment
	}{
		{nil, []optim.Segment{{Lo: 0, Hi: 26, Decay: true}}},
		{[]string{"norm", "bias"}, []optim.Segment{{Lo: 0, Hi: 15, Decay: true}, {Lo: 15, Hi: 26}}},
		{[]string{"bias"}, []optim.Segment{{Lo: 0, Hi: 22, Decay: true}, {Lo: 22, Hi: 26}}},
		{[]string{"LN_1"}, []optim.Segment{{Lo: 0, Hi: 15, Decay: true}, {Lo: 15, Hi: 22}, {Lo: 22, Hi: 26, Decay: true}}},
	} {
		got := optim.AdamW{NoDecay: tc.noDecay}.Segments(params)
		if len(got) != len(tc.want) {
			t.Errorf("%v: %v, want %v", tc.noDecay, got, tc.want)
			continue
		}
		for i := range got {
			if got[i] != tc.want[i] {
				t.Errorf("%v: %v, want %v", tc.noDecay, got, tc.want)
			}
		}
	}
}

// TestAdamW holds ten steps against the formula in float64.
func TestAdamW(t *testing.T) {
	dev := modeltest.Device(t)
	s := kernels.NewStream(dev)
	tensor := func(cols int) kernels.Tensor {
		x, err := kernels.Alloc(dev, dtype.F32, 1, cols)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	a := optim.AdamW{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, NoDecay: []string{"norm"}}
	const lr, clip = 0.01, 0.25
	w, g, m, v, decayed, plain := tensor(elems), tensor(elems), tensor(elems), tensor(elems), tensor(optim.HyperLen), tensor(optim.HyperLen)
	var ref [elems]struct{ w, m, v float64 }
	rng := rand.New(rand.NewPCG(1, 1))
	grad := make([]float32, elems)
	for step := uint64(1); step <= 10; step++ {
		for i := range grad {
			grad[i] = float32(rng.NormFloat64())
			if i%7 == 0 {
				grad[i] = 0 // 0/(0+eps) is 0, as for LoRA's A in its first step
			}
			r, gi := &ref[i], float64(grad[i])*clip
			if i < 15 || i >= 22 {
				r.w *= 1 - lr*a.WeightDecay
			}
			r.m, r.v = a.Beta1*r.m+(1-a.Beta1)*gi, a.Beta2*r.v+(1-a.Beta2)*gi*gi
			mh, vh := r.m/(1-math.Pow(a.Beta1, float64(step))), r.v/(1-math.Pow(a.Beta2, float64(step)))
			r.w -= lr * mh / (math.Sqrt(vh) + a.Eps)
		}
		s.Upload(g, grad)
		s.Upload(decayed, a.Hyper(step, lr, clip, true))
		s.Upload(plain, a.Hyper(step, lr, clip, false))
		a.Step(s, a.Segments(params), w, g, m, v, decayed, plain)
	}
	got := make([]float32, elems)
	if err := s.Download(got, w); err != nil {
		t.Fatal(err)
	}
	for i, x := range got {
		if math.Abs(float64(x)-ref[i].w) > 1e-7 {
			t.Errorf("weight %d is %v, want %v", i, x, ref[i].w)
		}
	}
}

func TestClip(t *testing.T) {
	for _, tc := range []struct{ norm, limit, want float64 }{{5, 0, 1}, {0.5, 1, 1}, {4, 1, 1 / (4 + 1e-6)}, {0, 1, 1}} {
		if got := optim.Clip(tc.norm, tc.limit); got != tc.want {
			t.Errorf("clip of %v at %v is %v, want %v", tc.norm, tc.limit, got, tc.want)
		}
	}
}
