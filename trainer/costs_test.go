package trainer_test

import (
	"math/rand/v2"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/plan"
)

// TestCosts holds the memory that a plan counts with against what the device gave out for a step.
func TestCosts(t *testing.T) {
	const tokens, besides = 256, 96 << 20
	for name, s := range map[string]job.Spec{
		"full":               {},
		"full, bf16":         {DType: job.BF16},
		"checkpointed":       {GradientCheckpointing: true},
		"lora":               {Adapter: job.AdapterLora, LoraR: 8, LoraTargetLinear: true},
		"lora, checkpointed": {Adapter: job.AdapterLora, LoraR: 8, LoraTargetLinear: true, GradientCheckpointing: true, DType: job.BF16},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := tiny.Write(dir, tiny.Shape{Hidden: 256, Inner: 704, Layers: 6, Heads: 8, KVHeads: 4, Context: 512}, 7); err != nil {
				t.Fatal(err)
			}
			s.GlobalBatchSize, s.MicroBatchSize, s.MaxSteps, s.SequenceLen, s.Optimizer.LR = 2, 2, 1, tokens, 1e-3
			spec, files := valid(t, s), safetensors.Dir(dir)
			rng := rand.New(rand.NewPCG(1, 2))
			var data rows
			for range 2 {
				ids := make([]int32, tokens)
				for i := range ids {
					ids[i] = int32(rng.IntN(200))
				}
				data = append(data, ids)
			}
			j, err := trainer.Costs(spec, files, nil, tokens)
			if err != nil {
				t.Fatal(err)
			}
			p, err := plan.Make(j, []plan.Node{{Name: "a", Memory: 1 << 40, Flops: 1e9}}, plan.Want{})
			if err != nil {
				t.Fatal(err)
			}
			dev := modeltest.Device(t)
			kernels.PackCache(dev, 0)
			tr, err := trainer.New(trainer.Config{Spec: spec, Model: files, Rows: data, Device: dev})
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			train(t, tr, 1)
			counted := p.Stages[0].Memory - besides - p.Stages[0].Learns*int64(j.OnHost)
			used := dev.Info().InUse
			t.Logf("counted %.1f MB, used %.1f MB: %.2f", float64(counted)/1e6, float64(used)/1e6, float64(counted)/float64(used))
			if r := float64(counted) / float64(used); r < 0.85 || r > 1.35 {
				t.Errorf("a plan counts with %d bytes on the device, a step takes %d", counted, used)
			}
		})
	}
}
