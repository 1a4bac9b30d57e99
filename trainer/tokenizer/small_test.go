package tokenizer

import (
	"testing"
	"testing/fstest"

	"github.com/seed-7b27c88a/shoal/trainer/tokenizer/tokenizertest"
)

// byteTokenizer is a tokenizer of single bytes with a chat template.
func byteTokenizer(t testing.TB, template string) *Tokenizer {
	t.Helper()
	return small(t, tokenizertest.Options{Template: template})
}

func small(t testing.TB, o tokenizertest.Options) *Tokenizer {
	t.Helper()
	files, err := tokenizertest.Files(o)
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	for name, data := range files {
		fsys[name] = &fstest.MapFile{Data: data}
	}
	tok, err := Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}
