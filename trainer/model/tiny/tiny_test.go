package tiny_test

import (
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/tokenizer"
)

func TestWrittenModelsOpen(t *testing.T) {
	for _, s := range []tiny.Shape{
		{}, {Type: "llama", Tied: true, KVHeads: 2, DType: safetensors.BF16}, {Type: "mistral", Window: 5},
		{Type: "qwen2", DType: safetensors.F16}, {Type: "gpt2", Tied: true}, {Type: "gpt2"},
		{Type: "qwen3", KVHeads: 2}, {Type: "gemma2", Tied: true, Window: 5}, {Type: "phi3", KVHeads: 2},
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

// TestTokenizer: every byte is a token, and a prompt begins with <s>.
func TestTokenizer(t *testing.T) {
	dir := t.TempDir()
	if err := tiny.Write(dir, tiny.Shape{}, 1); err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	const text = "2024-03-07 → 7 März\n\x00!"
	ids, err := tok.Prompt(text)
	if err != nil || len(ids) != 1+len(text) || ids[0] != 1 || ids[1] != 3+'2' {
		t.Fatalf("%v, %v", ids, err)
	}
	if got := tok.Decode(ids[1:]); got != text {
		t.Errorf("%q comes back as %q", text, got)
	}
}
