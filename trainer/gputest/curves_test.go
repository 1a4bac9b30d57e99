//go:build cuda && cudaemu

package gputest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cuda"
	"github.com/seed-7b27c88a/shoal/kernels/cuda/emu"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
)

// TestMain puts the emulator where the driver's library would be, unless a library is named.
func TestMain(m *testing.M) {
	if os.Getenv(cuda.LibraryVar) == "" {
		path, err := emu.Library("../../kernels/cuda")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Setenv(cuda.LibraryVar, path)
		os.Setenv(cuda.LtVar, "none")
	}
	os.Exit(m.Run())
}

// fullVar names the environment variable with which all 50 steps are run.
const fullVar = "SHOAL_FULL"

// steps is how far curves are followed: the emulator takes seconds for a step.
func steps(t *testing.T) uint64 {
	if os.Getenv(fullVar) != "" {
		return 50
	}
	t.Logf("2 steps of 50; %s=1 runs all", fullVar)
	return 2
}

type curve struct {
	F64 struct {
		Loss []float64 `json:"loss_before_step"`
		Norm []float64 `json:"grad_norm_before_clip"`
	} `json:"f64"`
}

type rows [][]int32

func (r rows) Rows() int { return len(r) }

func (r rows) Row(_ context.Context, i int) (ids, labels []int32, err error) { return r[i], r[i], nil }

func fullSpec() job.Spec {
	return job.Spec{GlobalBatchSize: 4, MaxSteps: 50, Shuffle: new(false), MicroBatchSize: 4,
		Optimizer:   job.Optimizer{LR: 1e-3, Betas: []float64{0.9, 0.95}, WeightDecay: 0.1, NoDecay: &[]string{}},
		LRScheduler: job.Scheduler{Name: job.Cosine, WarmupSteps: 5, MinLRRatio: 0.1}}
}

func loraSpec() job.Spec {
	return job.Spec{GlobalBatchSize: 4, MaxSteps: 50, Shuffle: new(false), Adapter: job.AdapterLora, LoraModelDir: "init", MicroBatchSize: 4,
		Optimizer: job.Optimizer{LR: 2e-3}, MaxGradNorm: new(0.0)}
}

// adapterDir is the reference adapter as a PEFT directory.
func adapterDir(t *testing.T) model.Files {
	t.Helper()
	dir := t.TempDir()
	for from, to := range map[string]string{"adapter_config.json": "adapter_config.json", "lora_init.safetensors": "adapter_model.safetensors"} {
		b, err := os.ReadFile(modeltest.Data(t, "reference", "stories260K", from))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, to), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return safetensors.Dir(dir)
}

// TestCurves follows PyTorch's curves of a real checkpoint: in float32 within 1e-3, which is a hundred times what sums in
// another order make of it; in bfloat16 as near as the CPU's are.
func TestCurves(t *testing.T) {
	var meta struct{ Full, Lora curve }
	modeltest.JSON(t, modeltest.Data(t, "reference", "stories260K", "meta.json"), &meta)
	data := modeltest.File(t, modeltest.Data(t, "reference", "stories260K", "data.safetensors"))
	base := safetensors.Dir(modeltest.Data(t, "models", "stories260K"))
	for _, tc := range []struct {
		name    string
		spec    job.Spec
		dtype   string
		adapter model.Files
		want    curve
		most    float64 // difference of the loss
	}{
		{"full", fullSpec(), job.FP32, nil, meta.Full, 1e-3},
		{"lora", loraSpec(), job.FP32, adapterDir(t), meta.Lora, 1e-3},
		{"full bf16", fullSpec(), job.BF16, nil, meta.Full, 3e-2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.spec.DType = tc.dtype
			reports := train(t, trainer.Config{Spec: valid(t, tc.spec), Model: base, Adapter: tc.adapter, Rows: rows(modeltest.Rows(t, data, "train_ids"))}, steps(t))
			loss, norm := 0.0, 0.0
			for i, r := range reports {
				loss = max(loss, math.Abs(r.Loss-tc.want.F64.Loss[i]))
				norm = max(norm, math.Abs(r.GradNorm/tc.want.F64.Norm[i]-1))
			}
			t.Logf("%d steps: loss differs by at most %.2g, gradient norm by %.2g of itself", len(reports), loss, norm)
			if loss > tc.most || norm > tc.most {
				t.Errorf("limit %g", tc.most)
			}
		})
	}
}

func valid(t *testing.T, s job.Spec) *job.Spec {
	t.Helper()
	s.Version, s.BaseModel, s.Datasets = job.Version, "base", []job.Dataset{{Path: "rows.jsonl"}}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	return &s
}

// train runs a job on the GPU to a step.
func train(t *testing.T, c trainer.Config, to uint64) (reports []trainer.StepReport) {
	t.Helper()
	dev, err := kernels.Open("cuda")
	if err != nil {
		t.Skip(err)
	}
	defer dev.Close()
	c.Device = dev
	tr, err := trainer.New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	err = tr.Run(ctx, tr.Local(), &trainer.Solo{}, func(r trainer.StepReport) {
		if reports = append(reports, r); r.Step == to {
			stop()
		}
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return reports
}
