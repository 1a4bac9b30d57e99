package trainer_test

import (
	"math"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
)

// lessons are jobs on a real small model, each with rows of its own to learn by heart, and the mean loss that training
// has to reach. Before it the rows have losses of 4 to 6.
var lessons = []struct {
	name  string
	spec  job.Spec
	steps int
	lr    float64
	to    float64
}{
	{"lora", job.Spec{Adapter: job.AdapterLora, LoraTargetLinear: true, LoraDropout: 0.05}, 30, 1e-2, 0.5},
	{"rslora", job.Spec{Adapter: job.AdapterLora, LoraTargetLinear: true, LoraRSLora: true}, 30, 5e-3, 0.5},
	{"dora", job.Spec{Adapter: job.AdapterDora, LoraTargetLinear: true}, 30, 1e-2, 0.5},
	{"ia3", job.Spec{Adapter: job.AdapterIA3}, 40, 1e-1, 1},
	{"pfeiffer", job.Spec{Adapter: job.AdapterBottleneck, Bottleneck: job.Bottleneck{Reduction: 4}}, 30, 1e-2, 1},
	{"houlsby", job.Spec{Adapter: job.AdapterBottleneck, Bottleneck: job.Bottleneck{Reduction: 4, Sites: []string{"attn", "mlp"}, Act: job.SiLU}}, 30, 1e-2, 0.5},
	{"prefix", job.Spec{Adapter: job.AdapterPrefix}, 40, 1e-1, 1},
	{"prefix, projection", job.Spec{Adapter: job.AdapterPrefix, Prefix: job.Prefix{Projection: true}}, 40, 1e-2, 1},
	{"prompt", job.Spec{Adapter: job.AdapterPrompt}, 60, 2e-1, 2},
	{"prompt, text", job.Spec{Adapter: job.AdapterPrompt, Prompt: job.Prompt{InitText: "Once upon a time"}}, 60, 2e-1, 2.5},
	{"saved modules", job.Spec{Adapter: job.AdapterLora, LoraModulesToSave: []string{"embed_tokens", "norm"}}, 30, 5e-3, 0.5},
	{"last layers", job.Spec{UnfrozenParameters: []string{`model\.layers\.[34]`, `model\.norm`}}, 30, 1e-2, 0.5},
}

func TestMethodsLearn(t *testing.T) {
	files := safetensors.Dir(modeltest.Data(t, "models", "stories260K"))
	all := modeltest.Rows(t, modeltest.File(t, modeltest.Data(t, "reference", "stories260K", "data.safetensors")), "train_ids")
	for i, l := range lessons {
		var data rows
		for _, r := range all[4*i : 4*i+4] {
			data = append(data, r[:32])
		}
		t.Run(l.name, func(t *testing.T) {
			l.spec.GlobalBatchSize, l.spec.MicroBatchSize, l.spec.MaxSteps, l.spec.Optimizer.LR = 4, 4, l.steps, l.lr
			tr := newTrainer(t, trainer.Config{Spec: valid(t, l.spec), Model: files, Rows: data})
			before := evalLoss(t, tr, data)
			train(t, tr, math.MaxUint64)
			after := evalLoss(t, tr, data)
			t.Logf("%d elements: loss %.3f to %.3f", tr.Elems(), before, after)
			if !(after < l.to) {
				t.Errorf("loss %.3f, want less than %v", after, l.to)
			}
		})
	}
}
