package generate_test

import (
	"context"
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/generate"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
)

func open(t *testing.T, elem ...string) *generate.Generator {
	t.Helper()
	g, err := generate.Open(modeltest.Device(t), safetensors.Dir(modeltest.Data(t, elem...)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestReferenceGreedy(t *testing.T) {
	var meta struct {
		Generation []struct {
			Prompt []int32 `json:"prompt_ids"`
			New    []int32 `json:"generated_ids"`
		}
	}
	modeltest.JSON(t, modeltest.Data(t, "reference", "stories260K", "meta.json"), &meta)
	for _, dir := range []string{"stories260K", "stories260K-bf16-sharded"} {
		g := open(t, "models", dir)
		for _, want := range meta.Generation {
			got, err := g.All(context.Background(), want.Prompt, generate.Options{MaxTokens: len(want.New)})
			if err != nil {
				t.Fatal(err)
			}
			same := 0
			for same < len(got) && same < len(want.New) && got[same] == want.New[same] {
				same++
			}
			if dir == "stories260K" && same < len(want.New) {
				t.Errorf("%v goes on with %v, want %v", want.Prompt, got, want.New)
			}
			t.Logf("%s: the first %d of %d tokens agree", dir, same, len(want.New))
		}
	}
}

// TestMicroGreedy covers what the story model lacks: sliding windows, learned positions, biases, scaled rotation.
func TestMicroGreedy(t *testing.T) {
	for _, name := range []string{"llama_gqa", "llama_gqa_tied", "llama_mha", "llama_mqa_hd", "llama3_rope", "mistral_swa", "qwen2", "gpt2"} {
		var meta struct {
			Prompt []int32 `json:"greedy_prompt"`
			New    []int32 `json:"greedy_new"`
		}
		modeltest.JSON(t, modeltest.Data(t, "reference", "models", name, "meta.json"), &meta)
		got, err := open(t, "reference", "models", name).All(context.Background(), meta.Prompt,
			generate.Options{MaxTokens: len(meta.New), IgnoreEOS: true})
		if err != nil || !slices.Equal(got, meta.New) {
			t.Errorf("%s goes on with %v, %v; want %v", name, got, err, meta.New)
		}
	}
}
