package trainer_test

import (
	"fmt"
	"testing"

	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// BenchmarkStep is a whole optimizer step on 4 rows of 128 tokens of a model of the size of stories260K.
func BenchmarkStep(b *testing.B) {
	shape := tiny.Shape{Hidden: 64, Inner: 172, Layers: 5, Heads: 8, KVHeads: 4, Vocab: 512, Context: 512, Tied: true}
	data := make(rows, 16)
	for i := range data {
		for t := range 128 {
			data[i] = append(data[i], int32((i*37+t*t)%500))
		}
	}
	for _, s := range []struct {
		name string
		spec job.Spec
	}{
		{"full", job.Spec{}},
		{"lora", job.Spec{Adapter: job.AdapterLora, LoraTargetModules: []string{"q_proj", "k_proj", "v_proj", "o_proj"}}},
	} {
		for _, micro := range []int{1, 4} {
			b.Run(fmt.Sprintf("%s/micro%d", s.name, micro), func(b *testing.B) {
				spec := s.spec
				spec.MicroBatchSize, spec.GlobalBatchSize, spec.MaxSteps, spec.Optimizer.LR = micro, 4, 1<<30, 1e-4
				tr := newTrainer(b, trainer.Config{Spec: valid(b, spec), Model: base(b, shape), Rows: data})
				b.ReportAllocs()
				b.ResetTimer()
				train(b, tr, uint64(b.N))
				b.ReportMetric(float64(512*b.N)/b.Elapsed().Seconds(), "tokens/s")
			})
		}
	}
}
