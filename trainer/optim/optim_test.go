package optim_test

import (
	"testing"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
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
		got := optim.Decay{NoDecay: tc.noDecay}.Segments(params)
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

func TestClip(t *testing.T) {
	for _, tc := range []struct{ norm, limit, want float64 }{{5, 0, 1}, {0.5, 1, 1}, {4, 1, 1 / (4 + 1e-6)}, {0, 1, 1}} {
		if got := optim.Clip(tc.norm, tc.limit); got != tc.want {
			t.Errorf("clip of %v at %v is %v, want %v", tc.norm, tc.limit, got, tc.want)
		}
	}
}
