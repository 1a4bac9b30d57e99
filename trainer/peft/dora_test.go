package peft_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// TestDoRAGradient: the gradient of A and B is that of a model whose row norms stay what they are. Central differences
// see that model where the magnitude grows with the norm, so that their quotient stays.
func TestDoRAGradient(t *testing.T) {
	for family, shape := range families {
		t.Run(family, func(t *testing.T) {
			m := openTiny(t, shape)
			a, err := peft.New(m, peft.Config{Method: job.AdapterDora, R: 3, Alpha: 6, All: true}, 5)
			if err != nil {
				t.Fatal(err)
			}
			s := onCPU(t, m, a)
			scatter(t, s)
			g := gradient(t, s)
			rng := rand.New(rand.NewPCG(7, 8))
			for _, l := range m.Linear {
				of := a.(peft.Merger).Of(l.W)
				for _, p := range of[:2] {
					checkHeld(t, m, s, l, of, p, g, rng)
				}
			}
		})
	}
}

// checkHeld is checkDirection for p, one of of = A, B, magnitude of the layer l.
func checkHeld(t *testing.T, m *model.Model, s *stage.Stage, l *model.Linear, of []*autograd.Param, p *autograd.Param, g []float32, rng *rand.Rand) {
	t.Helper()
	was, mag, norms := value(t, s, p), value(t, s, of[2]), rowNorms(t, m, s, l, of)
	dir, want := make([]float32, len(was)), 0.0
	for i := range dir {
		dir[i] = float32(math.Copysign(1, float64(g[p.Off+i])) * (0.5 + rng.Float64()))
		want += float64(g[p.Off+i]) * float64(dir[i])
	}
	put := func(p *autograd.Param, v []float32) { s.Stream.Upload(s.W.SliceCols(p.Off, p.Off+p.Len()), v) }
	shifted := func(h float64) float64 {
		moved := make([]float32, len(was))
		for i := range was {
			moved[i] = was[i] + float32(h)*dir[i]
		}
		put(p, moved)
		held := make([]float32, len(mag))
		for o, n := range rowNorms(t, m, s, l, of) {
			held[o] = float32(float64(mag[o]) * n / norms[o])
		}
		put(of[2], held)
		return loss(t, s)
	}
	h := min(0.05/want, 3e-3)
	got := (shifted(h) - shifted(-h)) / (2 * h)
	put(p, was)
	put(of[2], mag)
	if math.Abs(got/want-1) > 1e-2 {
		t.Errorf("%s: differences give %.6g, the gradient %.6g", p.Name, got, want)
	}
}

// rowNorms are ‖W + 2·B·A‖ per output, in float64.
func rowNorms(t *testing.T, m *model.Model, s *stage.Stage, l *model.Linear, of []*autograd.Param) []float64 {
	t.Helper()
	w, a, b := value(t, s, l.W), value(t, s, of[0]), value(t, s, of[1])
	in, out, r := l.In(), l.Out(), of[0].Rows
	norms := make([]float64, out)
	for o := range out {
		sum := 0.0
		for i := range in {
			at := o*in + i
			if l.InOut {
				at = i*out + o
			}
			x := float64(w[at])
			for k := range r {
				x += 2 * float64(b[o*r+k]) * float64(a[k*in+i])
			}
			sum += x * x
		}
		norms[o] = math.Sqrt(sum)
	}
	return norms
}
