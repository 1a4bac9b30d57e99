package trainer_test

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/shard/scratch"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// room is where vectors lie that are not in memory.
func room(t *testing.T) *scratch.Dir {
	d, err := scratch.New(filepath.Join(t.TempDir(), "scratch"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestAway: training with weights that come and go has the losses of training with all of them on the device, which it
// takes a fraction of; so have evaluations, one that goes on while the weights change among them, and files.
func TestAway(t *testing.T) {
	dir := t.TempDir()
	if err := tiny.Write(dir, tiny.Shape{Hidden: 96, Inner: 160, Layers: 8, Heads: 4, KVHeads: 2, Context: 64}, 7); err != nil {
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
		"adamw":              {},
		"bf16, checkpointed": {DType: job.BF16, GradientCheckpointing: true},
		"fp16":               {DType: job.FP16},
		"8 bits, disk":       {Optimizer: job.Optimizer{Name: job.AdamW8}, Parallel: job.Parallel{Offload: job.OffloadDisk}},
		"some weights":       {UnfrozenParameters: []string{`model.layers.[37]\.`}, Optimizer: job.Optimizer{Name: job.Lion}},
		"lora, disk":         {Adapter: job.AdapterLora, Parallel: job.Parallel{Offload: job.OffloadDisk}},
	} {
		t.Run(name, func(t *testing.T) {
			s.GlobalBatchSize, s.MicroBatchSize, s.MaxSteps, s.Optimizer.LR = 4, 2, 4, 1e-3
			type result struct {
				losses []float64
				evals  [2]float64 // of the first and the last weights
				used   int64
				file   []byte
			}
			run := func(p job.Parallel, c trainer.Config) (r result) {
				s := s
				s.Parallel = p
				c.Spec, c.Model, c.Rows, c.Device = valid(t, s), safetensors.Dir(dir), data, modeltest.Device(t)
				tr, err := trainer.New(c)
				if err != nil {
					t.Fatal(err)
				}
				defer tr.Close()
				finish, err := tr.StartEval(t.Context(), data)
				if err != nil {
					t.Fatal(err)
				}
				for _, x := range train(t, tr, 4) {
					r.losses = append(r.losses, x.Loss)
				}
				for i, f := range []func(context.Context) (trainer.EvalReport, error){finish,
					func(ctx context.Context) (trainer.EvalReport, error) { return tr.Eval(ctx, data) }} {
					e, err := f(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					r.evals[i] = e.Loss
				}
				r.used = c.Device.Info().InUse
				out := t.TempDir()
				if err := tr.Export(out, ""); err != nil {
					t.Fatal(err)
				}
				name := "model.safetensors"
				if s.Adapter == job.AdapterLora {
					name = "adapter_model.safetensors"
				}
				if r.file, err = os.ReadFile(filepath.Join(out, name)); err != nil {
					t.Fatal(err)
				}
				return r
			}
			want := run(job.Parallel{}, trainer.Config{})
			p := s.Parallel
			p.Zero = "3"
			got, plain := run(p, trainer.Config{Scratch: room(t)}), run(p, trainer.Config{})
			t.Logf("%v, %.1f MB of %.1f", got.losses, float64(got.used)/1e6, float64(want.used)/1e6)
			if !slices.Equal(got.losses, plain.losses) || got.evals != plain.evals || string(got.file) != string(plain.file) {
				t.Error("in files it is not what it is in memory")
			}
			far := max(math.Abs(got.evals[0]-want.evals[0]), math.Abs(got.evals[1]-want.evals[1]))
			for i := range want.losses {
				far = max(far, math.Abs(got.losses[i]-want.losses[i]))
			}
			limit := 1e-4
			if s.DType != "" { // layers that share their input are one product there, whose gradient is rounded once
				limit = 5e-3
			}
			if far > limit || slices.Contains(got.losses, 0) || len(got.file) != len(want.file) {
				t.Errorf("losses %v, %v; want %v, %v", got.losses, got.evals, want.losses, want.evals)
			}
			if got.used > want.used*3/4 && p.Offload != "" {
				t.Errorf("it takes %d bytes of the device, all of it %d", got.used, want.used)
			}
		})
	}
}
