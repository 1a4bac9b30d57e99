package tiny_test

import (
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

func TestWrittenModelsOpen(t *testing.T) {
	for _, s := range []tiny.Shape{
		{}, {Type: "llama", Tied: true, KVHeads: 2, DType: safetensors.BF16}, {Type: "mistral", Window: 5},
		{Type: "qwen2", DType: safetensors.F16}, {Type: "gpt2", Tied: true}, {Type: "gpt2"},
	} {
		dir := t.TempDir()
		if err := tiny.Write(dir, s, 1); err != nil {
			t.Fatal(err)
		}
		m, err := model.Open(safetensors.Dir(dir))
		if err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		for _, p := range m.Params {
			if err := m.Read(p, make([]float32, p.Len())); err != nil {
				t.Errorf("%+v: %v", s, err)
			}
		}
		m.Close()
	}
}
