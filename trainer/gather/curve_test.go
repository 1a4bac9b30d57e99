package gather_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/gather"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
	"github.com/seed-7b27c88a/shoal/trainer/optim"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// stepper steps the owners' chunks, each with an optimizer of its own.
type stepper struct {
	o    *gather.Owners
	s    *kernels.Stream
	opts []optim.Optimizer
	w, g kernels.Tensor
}

func newStepper(t *testing.T, o *gather.Owners, rule optim.Rule) *stepper {
	dev := modeltest.Device(t)
	p := &stepper{o: o, s: kernels.NewStream(dev)}
	most := 0
	for _, c := range o.Layout.Chunks {
		opt, err := rule.Open(p.s, []*autograd.Param{{Rows: 1, Cols: c.Len()}}, c.Len())
		if err != nil {
			t.Fatal(err)
		}
		p.opts, most = append(p.opts, opt), max(most, c.Len())
	}
	var err, err2 error
	p.w, err = kernels.Alloc(dev, dtype.F32, 1, most)
	p.g, err2 = kernels.Alloc(dev, dtype.F32, 1, most)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return p
}

// norm is that of the mean gradient.
func (p *stepper) norm(t *testing.T, tokens float64) float64 {
	t.Helper()
	sum := 0.0
	for _, x := range gradientKept(t, p.o) {
		sum += float64(x) / tokens * float64(x) / tokens
	}
	return math.Sqrt(sum)
}

func (p *stepper) step(now optim.Now, tokens float64) error {
	return p.o.Each(func(c int, w, g []float32) error {
		for i := range g {
			g[i] = float32(float64(g[i]) / tokens)
		}
		wt, gt := p.w.SliceCols(0, len(w)), p.g.SliceCols(0, len(g))
		p.s.Upload(wt, w)
		p.s.Upload(gt, g)
		p.opts[c].Step(now, wt, gt, 0, len(w))
		return p.s.Download(w, wt)
	})
}

// gradientKept is what the owners hold, and leaves it there.
func gradientKept(t *testing.T, o *gather.Owners) []float32 {
	t.Helper()
	g := gradient(t, o)
	for u := range o.Layout.Units {
		if err := o.Scatter(t.Context(), u, g[o.Layout.Units[u].Lo:o.Layout.Units[u].Hi]); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// TestReferenceCurve trains a real model whose weights, gradients and moments lie with owners alone: in memory, and in files.
func TestReferenceCurve(t *testing.T) {
	var meta struct {
		Full struct {
			F64 struct {
				Loss []float64 `json:"loss_before_step"`
				Norm []float64 `json:"grad_norm_before_clip"`
			} `json:"f64"`
		}
	}
	modeltest.JSON(t, modeltest.Data(t, "reference", "stories260K", "meta.json"), &meta)
	data := modeltest.File(t, modeltest.Data(t, "reference", "stories260K", "data.safetensors"))
	rows := modeltest.Rows(t, data, "train_ids")
	if modeltest.Device(t).Info().Kernel == "generic" {
		t.Skip("takes minutes without vector instructions")
	}
	spec := &job.Spec{Version: job.Version, BaseModel: "b", Datasets: []job.Dataset{{Path: "x.jsonl"}}, GlobalBatchSize: 4, MaxSteps: 50,
		Optimizer:   job.Optimizer{LR: 1e-3, Betas: []float64{0.9, 0.95}, WeightDecay: 0.1, NoDecay: &[]string{}},
		LRScheduler: job.Scheduler{Name: job.Cosine, WarmupSteps: 5, MinLRRatio: 0.1}}
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, n := range []int{1, 2, 3, 5} {
		store, where, steps := inMemory, "memory", 12
		if n == 3 {
			steps = 50
		}
		if n == 2 {
			store, where = func(n int) (gather.Store, error) { return gather.NewFile(dir, n) }, "files"
		}
		t.Run(fmt.Sprintf("%d owners in %s", n, where), func(t *testing.T) {
			m, err := model.Open(safetensors.Dir(modeltest.Data(t, "models", "stories260K")))
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			o := owners(t, m, n, store)
			s, err := stage.NewGathered(dtype.F32, modeltest.Device(t), m, nil, slices.Clone(m.Params), o.Layout.Size, o)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			step := newStepper(t, o, optim.AdamW{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: optim.Decay{WeightDecay: 0.1}})
			worst, norms := 0.0, 0.0
			for k := range steps {
				var sums objective.Sums
				for i := range 4 {
					ids := rows[(4*k+i)%len(rows)]
					sum, err := s.Forward(t.Context(), uint64(k+1), []model.Sequence{{IDs: ids, Target: objective.Targets(ids)}})
					if err == nil {
						err = s.Backward(t.Context())
					}
					if err != nil {
						t.Fatal(err)
					}
					sums.Add(sum)
				}
				tokens := float64(sums.Tokens)
				norm := step.norm(t, tokens)
				worst = max(worst, math.Abs(sums.Loss/tokens-meta.Full.F64.Loss[k]))
				norms = max(norms, math.Abs(norm/meta.Full.F64.Norm[k]-1))
				now := optim.Now{Step: uint64(k + 1), LR: spec.LR(uint64(k+1), 50), Clip: optim.Clip(norm, 1)}
				if err := step.step(now, tokens); err != nil {
					t.Fatal(err)
				}
				s.Gathered().Drop()
			}
			t.Logf("loss differs by at most %.2g, gradient norm by %.2g of itself", worst, norms)
			if worst > 1e-5 || norms > 1e-4 {
				t.Errorf("loss differs by %.2g, norm by %.2g", worst, norms)
			}
		})
	}
}
