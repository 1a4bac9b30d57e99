package trainer_test

import (
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
)

// TestReferenceOptimizer holds the weights after steps 1, 2 and 10 of a micro model against float64 AdamW.
func TestReferenceOptimizer(t *testing.T) {
	dir := modeltest.Data(t, "reference", "optim")
	type run struct {
		Hyper struct {
			LR      float64
			Beta1   float64
			Beta2   float64
			Decay   float64  `json:"weight_decay"`
			MaxNorm *float64 `json:"max_grad_norm"`
		}
		Loss []float64 `json:"loss_before_step"`
		Norm []float64 `json:"grad_norm_before_clip"`
	}
	var meta struct{ Optimizers map[string]run }
	modeltest.JSON(t, filepath.Join(dir, "meta.json"), &meta)
	data := modeltest.Rows(t, modeltest.File(t, filepath.Join(dir, "batches.safetensors")), "input_ids")
	for _, name := range []string{"adamw", "adamw_clip"} {
		t.Run(name, func(t *testing.T) {
			want := meta.Optimizers[name]
			h := want.Hyper
			limit := new(0.0)
			if h.MaxNorm != nil {
				limit = h.MaxNorm
			}
			tr := newTrainer(t, trainer.Config{Model: safetensors.Dir(modeltest.Data(t, "reference", "models", "llama_gqa")), Rows: rows(data),
				Spec: valid(t, job.Spec{GlobalBatchSize: 2, MicroBatchSize: 2, MaxSteps: 10, Shuffle: new(false), MaxGradNorm: limit,
					Optimizer: job.Optimizer{LR: h.LR, Betas: []float64{h.Beta1, h.Beta2}, WeightDecay: h.Decay, NoDecay: &[]string{}}})})
			for _, step := range []uint64{1, 2, 10} {
				for _, r := range train(t, tr, step) {
					if i := r.Step - 1; math.Abs(r.Loss-want.Loss[i]) > 1e-4 || math.Abs(r.GradNorm/want.Norm[i]-1) > 1e-4 {
						t.Errorf("step %d: loss %v, norm %v, want %v, %v", r.Step, r.Loss, r.GradNorm, want.Loss[i], want.Norm[i])
					}
				}
				ref := modeltest.File(t, filepath.Join(dir, fmt.Sprintf("%s.step%d.safetensors", name, step)))
				checkWeights(t, tr, ref, step)
			}
		})
	}
}

// checkWeights compares how far the weights are from the reference with how far the reference is from its start. Where a
// gradient is about as small as its rounding error AdamW's first steps have its full size in either direction, so some
// weights of 23,200 differ visibly in float32.
func checkWeights(t *testing.T, tr *trainer.Trainer, ref *safetensors.File, step uint64) {
	t.Helper()
	out := t.TempDir()
	if err := tr.Export(out, trainer.ExportFull); err != nil {
		t.Fatal(err)
	}
	got := modeltest.File(t, filepath.Join(out, safetensors.SingleFile))
	start := modeltest.File(t, filepath.Join(modeltest.Data(t, "reference", "models", "llama_gqa"), safetensors.SingleFile))
	var off, moved float64
	for _, x := range ref.Tensors() {
		a, b, c := modeltest.F64(t, got, x.Name), modeltest.F64(t, ref, x.Name), modeltest.F64(t, start, x.Name)
		for i := range a {
			off += (a[i] - b[i]) * (a[i] - b[i])
			moved += (c[i] - b[i]) * (c[i] - b[i])
		}
	}
	d := math.Sqrt(off / moved)
	t.Logf("after step %d weights are off by %.2g of the way", step, d)
	if d > 2e-3 {
		t.Errorf("after step %d weights are off by %.2g of the way", step, d)
	}
}
