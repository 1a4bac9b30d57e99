package trainer_test

import (
	"math"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// TestBF16Curves holds 50 steps whose products are computed in bfloat16 against the same steps in float64. An operand
// loses up to 2⁻⁹ of itself. The losses differed by 0.013 in the worst step and 0.0014 in the mean, the norms by 0.012 of
// themselves; the limits leave room for other models' worst steps.
func TestBF16Curves(t *testing.T) {
	var meta struct{ Full, Lora curve }
	modeltest.JSON(t, modeltest.Data(t, "reference", "stories260K", "meta.json"), &meta)
	data := modeltest.File(t, modeltest.Data(t, "reference", "stories260K", "data.safetensors"))
	base := safetensors.Dir(modeltest.Data(t, "models", "stories260K"))
	for _, tc := range []struct {
		name    string
		spec    job.Spec
		adapter model.Files
		want    curve
	}{{"full", fullSpec(), nil, meta.Full}, {"lora", loraSpec(), adapterDir(t), meta.Lora}} {
		t.Run(tc.name, func(t *testing.T) {
			tc.spec.DType, tc.spec.MicroBatchSize = job.BF16, 4
			tr := newTrainer(t, trainer.Config{Spec: valid(t, tc.spec), Model: base, Adapter: tc.adapter,
				Rows: rows(modeltest.Rows(t, data, "train_ids"))})
			steps := uint64(50)
			if tr.Device().Info().Kernel == "generic" {
				steps = 3
			}
			loss, mean, norm := 0.0, 0.0, 0.0
			for i, r := range train(t, tr, steps) {
				d := math.Abs(r.Loss - tc.want.F64.Loss[i])
				loss, mean = max(loss, d), mean+d/float64(steps)
				norm = max(norm, math.Abs(r.GradNorm/tc.want.F64.Norm[i]-1))
			}
			t.Logf("loss differs by at most %.2g, %.2g in the mean, gradient norm by %.2g of itself", loss, mean, norm)
			if loss > 3e-2 || mean > 4e-3 || norm > 3e-2 {
				t.Error("limits: 0.03, 0.004 and 0.03")
			}
		})
	}
}

// TestBF16Families: processors without an instruction for bfloat16 take the steps of those that have one, bit for bit.
func TestBF16Families(t *testing.T) {
	for name, spec := range map[string]job.Spec{"full": {}, "lora": {Adapter: job.AdapterLora, LoraTargetLinear: true, LoraDropout: 0.1}} {
		spec.MicroBatchSize, spec.GlobalBatchSize, spec.MaxSteps, spec.Optimizer.LR, spec.DType = 2, 4, 2, 1e-3, job.BF16
		files, hashes := base(t, stories), map[[32]byte]string{}
		for _, device := range []string{"cpu", "cpu:avx512", "cpu:avx2", "cpu:neon"} {
			dev, err := kernels.Open(device)
			if err != nil {
				continue // this processor has other kernels
			}
			tr := open(t, dev, trainer.Config{Spec: valid(t, spec), Model: files, Rows: passages()})
			train(t, tr, 2)
			h, err := tr.StateHash()
			if err != nil {
				t.Fatal(err)
			}
			hashes[h] = device
			closed(t, tr)
			dev.Close()
		}
		if len(hashes) != 1 {
			t.Errorf("%s: states differ between %v", name, hashes)
		}
	}
}

// TestBF16Checkpoints: blocks that run again take the same steps.
func TestBF16Checkpoints(t *testing.T) {
	var hashes [2][32]byte
	for i := range hashes {
		spec := valid(t, job.Spec{MicroBatchSize: 2, GlobalBatchSize: 4, MaxSteps: 2, Optimizer: job.Optimizer{LR: 1e-3}, DType: job.BF16,
			GradientCheckpointing: i == 1})
		tr := newTrainer(t, trainer.Config{Spec: spec, Model: base(t, stories), Rows: passages()})
		train(t, tr, 2)
		var err error
		if hashes[i], err = tr.StateHash(); err != nil {
			t.Fatal(err)
		}
	}
	if hashes[0] != hashes[1] {
		t.Error("gradient_checkpointing changes the steps")
	}
}

// TestBF16Everywhere: every adapter takes its first steps in bfloat16, near those in float32.
func TestBF16Everywhere(t *testing.T) {
	for _, adapter := range []string{"none", "lora", "dora", "ia3", "bottleneck", "prefix", "prompt"} {
		for _, shape := range []tiny.Shape{{KVHeads: 2}, {Type: "gpt2", Tied: true}} {
			var losses [2]float64
			for i, typ := range []string{job.FP32, job.BF16} {
				spec := valid(t, job.Spec{MicroBatchSize: 2, GlobalBatchSize: 4, MaxSteps: 2, Optimizer: job.Optimizer{LR: 1e-3}, DType: typ,
					Adapter: adapter})
				tr := newTrainer(t, trainer.Config{Spec: spec, Model: base(t, shape), Rows: lesson(8)})
				for _, r := range train(t, tr, 2) {
					losses[i] += r.Loss / 2
				}
			}
			if d := math.Abs(losses[0] - losses[1]); losses[0] == 0 || !(d < 1e-2) {
				t.Errorf("%s on %q: mean losses %v", adapter, shape.Type, losses)
			}
		}
	}
}
