package trainer_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// TestOffload: training with frozen weights that come and go has the losses of training with all of them on the device,
// which it takes a fraction of; so have evaluations.
func TestOffload(t *testing.T) {
	dir := t.TempDir()
	if err := tiny.Write(dir, tiny.Shape{Hidden: 128, Inner: 352, Layers: 12, Heads: 8, KVHeads: 4, Context: 64}, 7); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var data rows
	for range 8 {
		ids := make([]int32, 8+rng.IntN(8))
		for i := range ids {
			ids[i] = int32(rng.IntN(200))
		}
		data = append(data, ids)
	}
	for name, s := range map[string]job.Spec{
		"lora":               {Adapter: job.AdapterLora},
		"lora, bf16":         {Adapter: job.AdapterLora, DType: job.BF16},
		"dora, checkpointed": {Adapter: job.AdapterDora, GradientCheckpointing: true},
		"prefix":             {Adapter: job.AdapterPrefix, Prefix: job.Prefix{Tokens: 3, Projection: true, Hidden: 16}},
	} {
		t.Run(name, func(t *testing.T) {
			s.GlobalBatchSize, s.MaxSteps, s.Optimizer.LR = 2, 4, 1e-2
			run := func(offload string) (losses []float64, eval float64, used int64) {
				s := s
				s.Parallel.Offload = offload
				dev := modeltest.Device(t)
				tr, err := trainer.New(trainer.Config{Spec: valid(t, s), Model: safetensors.Dir(dir), Rows: data, Device: dev})
				if err != nil {
					t.Fatal(err)
				}
				defer tr.Close()
				for _, r := range train(t, tr, 4) {
					losses = append(losses, r.Loss)
				}
				e, err := tr.Eval(context.Background(), data)
				if err != nil {
					t.Fatal(err)
				}
				return losses, e.Loss, dev.Info().InUse
			}
			want, eval, all := run("")
			for _, where := range []string{job.OffloadCPU, job.OffloadDisk} {
				got, e, used := run(where)
				t.Logf("%s: %v, %.1f MB of %.1f", where, got, float64(used)/1e6, float64(all)/1e6)
				far := math.Abs(e - eval)
				for i := range got {
					far = max(far, math.Abs(got[i]-want[i]))
				}
				limit := 1e-4
				if s.DType == job.BF16 { // layers that share their input are one product there, whose gradient is rounded once
					limit = 5e-3
				}
				if len(got) != len(want) || far > limit || slices.Contains(got, 0) {
					t.Errorf("offload: %s: losses %v, %v; want %v, %v", where, got, e, want, eval)
				}
				if used > all*3/4 {
					t.Errorf("offload: %s takes %d bytes of the device, all of it %d", where, used, all)
				}
			}
		})
	}
}
