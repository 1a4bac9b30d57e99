package trainer_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
)

// rows are token ids, every token but the first a target.
type rows [][]int32

func (r rows) Rows() int { return len(r) }

func (r rows) Row(_ context.Context, i int) (ids, labels []int32, err error) { return r[i], r[i], nil }

// valid completes a spec.
func valid(t testing.TB, s job.Spec) *job.Spec {
	t.Helper()
	s.Version, s.BaseModel, s.Datasets = job.Version, "base", []job.Dataset{{Path: "rows.jsonl"}}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	return &s
}

func newTrainer(t testing.TB, c trainer.Config) *trainer.Trainer {
	t.Helper()
	c.Device = modeltest.Device(t)
	tr, err := trainer.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

// train runs a job in this process, from where it is to the given step.
func train(t testing.TB, tr *trainer.Trainer, to uint64) (reports []trainer.StepReport) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	err := tr.Run(ctx, tr.Local(), &trainer.Solo{}, func(r trainer.StepReport) {
		if reports = append(reports, r); r.Step == to {
			stop()
		}
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return reports
}

// curve is a reference run: what was measured before each step.
type curve struct {
	F64 struct {
		Loss []float64 `json:"loss_before_step"`
		Norm []float64 `json:"grad_norm_before_clip"`
		Eval float64   `json:"eval_loss_after"`
	} `json:"f64"`
}

func fullSpec() job.Spec {
	return job.Spec{GlobalBatchSize: 4, MaxSteps: 50, Shuffle: new(false),
		Optimizer:   job.Optimizer{LR: 1e-3, Betas: []float64{0.9, 0.95}, WeightDecay: 0.1, NoDecay: &[]string{}},
		LRScheduler: job.Scheduler{Name: job.Cosine, WarmupSteps: 5, MinLRRatio: 0.1}}
}

func loraSpec() job.Spec {
	return job.Spec{GlobalBatchSize: 4, MaxSteps: 50, Shuffle: new(false), Adapter: job.AdapterLora, LoraModelDir: "init",
		Optimizer: job.Optimizer{LR: 2e-3}, MaxGradNorm: new(0.0)}
}

// adapterDir is the reference adapter as a PEFT directory.
func adapterDir(t *testing.T) model.Files {
	t.Helper()
	dir := t.TempDir()
	for from, to := range map[string]string{"adapter_config.json": "adapter_config.json", "lora_init.safetensors": "adapter_model.safetensors"} {
		b, err := os.ReadFile(modeltest.Data(t, "reference", "stories260K", from))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, to), b, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return safetensors.Dir(dir)
}

// TestReferenceCurves holds 50 steps on a real model against the same steps in PyTorch with float64.
func TestReferenceCurves(t *testing.T) {
	var meta struct{ Full, Lora curve }
	modeltest.JSON(t, modeltest.Data(t, "reference", "stories260K", "meta.json"), &meta)
	data := modeltest.File(t, modeltest.Data(t, "reference", "stories260K", "data.safetensors"))
	base := safetensors.Dir(modeltest.Data(t, "models", "stories260K"))
	for _, tc := range []struct {
		name    string
		spec    job.Spec
		micro   int
		adapter model.Files
		want    curve
	}{
		{"full", fullSpec(), 1, nil, meta.Full},
		{"full, micro-batches of 4", fullSpec(), 4, nil, meta.Full},
		{"lora", loraSpec(), 1, adapterDir(t), meta.Lora},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.spec.MicroBatchSize = tc.micro
			tr := newTrainer(t, trainer.Config{Spec: valid(t, tc.spec), Model: base, Adapter: tc.adapter,
				Rows: rows(modeltest.Rows(t, data, "train_ids"))})
			if tr.Device().Info().Kernel == "generic" {
				compare(t, train(t, tr, 5), tc.want)
				t.Skip("the other 45 steps take minutes without vector instructions")
			}
			compare(t, train(t, tr, 50), tc.want)
			r, err := tr.Eval(context.Background(), rows(modeltest.Rows(t, data, "eval_ids")))
			if err != nil || math.Abs(r.Loss-tc.want.F64.Eval) > 1e-5 {
				t.Errorf("evaluation gives %+v, %v; want loss %v", r, err, tc.want.F64.Eval)
			}
		})
	}
}

func compare(t *testing.T, got []trainer.StepReport, want curve) {
	t.Helper()
	loss, norm := 0.0, 0.0
	for i, r := range got {
		if r.Step != uint64(i+1) || r.Tokens != 508 || r.Skipped {
			t.Errorf("step %s: %+v", strconv.Itoa(i+1), r)
		}
		loss = max(loss, math.Abs(r.Loss-want.F64.Loss[i]))
		norm = max(norm, math.Abs(r.GradNorm/want.F64.Norm[i]-1))
	}
	t.Logf("loss differs by at most %.2g, gradient norm by %.2g of itself", loss, norm)
	if loss > 1e-5 || norm > 1e-4 {
		t.Errorf("loss differs by %.2g (limit 1e-5), gradient norm by %.2g of itself (limit 1e-4)", loss, norm)
	}
}
