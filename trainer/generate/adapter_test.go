package generate_test

import (
	"context"
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/generate"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// TestAdapters: with each method, token by token over a cache gives the text that whole passes give.
func TestAdapters(t *testing.T) {
	for name, c := range map[string]peft.Config{
		"lora":       {R: 2, Alpha: 4, All: true},
		"dora":       {Method: job.AdapterDora, R: 2, Alpha: 4, All: true, Saved: []string{"lm_head"}},
		"ia3":        {Method: job.AdapterIA3},
		"bottleneck": {Method: job.AdapterBottleneck, Bottleneck: job.Bottleneck{Reduction: 4, Sites: []string{"attn", "mlp"}, Act: job.ReLU}},
		"prefix":     {Method: job.AdapterPrefix, Prefix: job.Prefix{Tokens: 5}},
		"prompt":     {Method: job.AdapterPrompt, Prompt: job.Prompt{Tokens: 5}},
	} {
		for _, shape := range []tiny.Shape{{KVHeads: 2}, {Type: "gpt2", Tied: true}} {
			base, adapter := saved(t, shape, c)
			checkAdapter(t, shape.Type+" "+name, base, adapter)
		}
	}
}

// saved writes a model and an adapter that changes what it says.
func saved(t *testing.T, shape tiny.Shape, c peft.Config) (base, adapter safetensors.Dir) {
	t.Helper()
	shape.Std, shape.Scatter, shape.Context = 0.3, true, 32
	base, adapter = safetensors.Dir(t.TempDir()), safetensors.Dir(t.TempDir())
	if err := tiny.Write(string(base), shape, 7); err != nil {
		t.Fatal(err)
	}
	m, err := model.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	a, err := peft.New(m, c, 5)
	if err != nil {
		t.Fatal(err)
	}
	err = a.Save(string(adapter), "base", func(p *autograd.Param) []float32 {
		v := make([]float32, p.Len())
		if err := a.Read(p, v); err != nil {
			t.Fatal(err)
		}
		for i := range v {
			v[i] += float32(i%7-3) / 8
		}
		return v
	})
	if err != nil {
		t.Fatal(err)
	}
	return base, adapter
}

func checkAdapter(t *testing.T, name string, base, adapter model.Files) {
	t.Helper()
	g, err := generate.Open(modeltest.Device(t), base, adapter)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer g.Close()
	prompt := []int32{1, 50, 60}
	got, err := g.All(context.Background(), prompt, generate.Options{IgnoreEOS: true})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(got) != g.Limit()-len(prompt) {
		t.Errorf("%s: %d new tokens, the model has room for %d", name, len(got), g.Limit()-len(prompt))
	}
	if want := whole(t, base, adapter, prompt, len(got)); !slices.Equal(got, want) {
		t.Errorf("%s: %v, whole passes give %v", name, got, want)
	}
}

// whole continues a prompt greedily without a cache.
func whole(t *testing.T, base, adapter model.Files, ids []int32, n int) []int32 {
	t.Helper()
	m, err := model.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	a, err := peft.Open(m, adapter, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	s, err := stage.New(modeltest.Device(t), m, a, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	logits, start := make([]float32, m.Config.Vocab), len(ids)
	for range n {
		if err := s.Logits(context.Background(), []model.Sequence{{IDs: ids}}, nil, logits); err != nil {
			t.Fatal(err)
		}
		best := 0
		for i, x := range logits {
			if x > logits[best] {
				best = i
			}
		}
		ids = append(slices.Clone(ids), int32(best))
	}
	return ids[start:]
}
