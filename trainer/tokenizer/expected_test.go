package tokenizer

import (
	"bufio"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"
)

// shared finds the folder of test data beside the repository.
func shared(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
	}
	path := filepath.Join(dir, "..", "shared", "data", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no test data: %s is not there", filepath.Join("..", "shared", "data", name))
	}
	return path
}

// only is a folder reduced to some files, so that each form of a vocabulary is tested.
func only(t testing.TB, dir string, names ...string) fs.FS {
	t.Helper()
	out := fstest.MapFS{}
	for _, n := range names {
		data, err := os.ReadFile(filepath.Join(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		out[n] = &fstest.MapFile{Data: data}
	}
	return out
}

type expectation struct {
	Text    string  `json:"text"`
	IDs     []int32 `json:"ids"`
	Special []int32 `json:"ids_special"`
	Decoded *string `json:"decoded"`
}

func expectations(t testing.TB, name string) []expectation {
	t.Helper()
	f, err := os.Open(filepath.Join(shared(t, "tokenizers"), "expected", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []expectation
	for s := bufio.NewScanner(f); s.Scan(); {
		var e expectation
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	if len(out) != 210 {
		t.Fatalf("%s: %d strings", name, len(out))
	}
	return out
}

func TestExpected(t *testing.T) {
	for _, tc := range []struct {
		name  string // of the expectations
		dir   string
		files []string
	}{
		{"gpt2", "tokenizers/gpt2", []string{"tokenizer.json", "tokenizer_config.json"}},
		{"gpt2", "tokenizers/gpt2", []string{"vocab.json", "merges.txt"}},
		{"cl100k", "tokenizers/cl100k", []string{"cl100k_base.tiktoken"}},
		{"qwen2", "tokenizers/qwen2", []string{"tokenizer.json", "tokenizer_config.json"}},
		{"qwen2", "tokenizers/qwen2", []string{"vocab.json", "merges.txt", "tokenizer_config.json"}},
		{"mistral_v1", "tokenizers/mistral_v1", []string{"tokenizer.json", "tokenizer_config.json"}},
		{"mistral_v1", "tokenizers/mistral_v1", []string{"tokenizer.model"}},
		{"stories260K", "models/stories260K", []string{"tokenizer.json", "tokenizer_config.json"}},
		{"stories260K", "models/stories260K", []string{"tokenizer.model", "tokenizer_config.json"}},
	} {
		t.Run(tc.name+"/"+tc.files[0], func(t *testing.T) {
			tok, err := Load(only(t, shared(t, tc.dir), tc.files...))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range expectations(t, tc.name) {
				check(t, tok, e)
			}
		})
	}
}

func check(t *testing.T, tok *Tokenizer, e expectation) {
	t.Helper()
	ids, err := tok.Encode(e.Text)
	if err != nil || !slices.Equal(ids, e.IDs) {
		t.Errorf("%q: %v, %v, want %v", e.Text, ids, err, e.IDs)
	}
	want := e.IDs
	if e.Special != nil {
		want = e.Special
	}
	ids, err = tok.EncodeSpecial(e.Text)
	if err != nil || !slices.Equal(ids, want) {
		t.Errorf("%q, special: %v, %v, want %v", e.Text, ids, err, want)
	}
	decoded := e.Text
	if e.Decoded != nil {
		decoded = *e.Decoded
	} else if len(tok.normalize) > 0 {
		decoded, _ = tok.normalize.apply(e.Text, begin)
	}
	if got := tok.DecodeAll(e.IDs); got != decoded {
		t.Errorf("%q decodes to %q, want %q", e.Text, got, decoded)
	}
}
