package tokenizer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func BenchmarkEncode(b *testing.B) {
	text, err := os.ReadFile(filepath.Join(shared(b, "text"), "tinyshakespeare.txt"))
	if err != nil {
		b.Fatal(err)
	}
	for _, tc := range []struct{ name, dir, file string }{
		{"cl100k", "tokenizers/cl100k", "cl100k_base.tiktoken"},
		{"gpt2", "tokenizers/gpt2", "tokenizer.json"},
		{"mistral", "tokenizers/mistral_v1", "tokenizer.json"},
	} {
		tok, err := Load(only(b, shared(b, tc.dir), tc.file))
		if err != nil {
			b.Fatal(err)
		}
		for _, kind := range []struct{ name, text string }{{"english", string(text)}, {"oneword", strings.Repeat("ab", len(text)/2)}} {
			b.Run(tc.name+"/"+kind.name, func(b *testing.B) {
				b.SetBytes(int64(len(kind.text)))
				for b.Loop() {
					if _, err := tok.Encode(kind.text); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
