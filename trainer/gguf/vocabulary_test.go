package gguf_test

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/seed-7b27c88a/shoal/trainer/gguf"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

func list[T any](t *testing.T, f written, key string) []T {
	t.Helper()
	kv, ok := f.Header.MetadataKV.Get(key)
	if !ok {
		t.Fatalf("no %s", key)
	}
	var out []T
	for _, v := range kv.ValueArray().Array {
		out = append(out, v.(T))
	}
	return out
}

// spellings are the strings of an array. The reader drops white space at their ends, so they are taken from where it says
// that they lie.
func spellings(t *testing.T, f written, key string) []string {
	t.Helper()
	short := list[string](t, f, key)
	kv, _ := f.Header.MetadataKV.Get(key)
	b := f.text[kv.ValueArray().StartOffset+4+8:] // after the type and the length
	for i, want := range short {
		n := binary.LittleEndian.Uint64(b)
		short[i], b = string(b[8:8+n]), b[8+n:]
		if strings.TrimSpace(short[i]) != want {
			t.Fatalf("%s: entry %d is %q, the reader has %q", key, i, short[i], want)
		}
	}
	return short
}

// withTokenizer is a small model with a real tokenizer.
func withTokenizer(t *testing.T, kind, name string, rows int) string {
	t.Helper()
	from := modeltest.Data(t, "tokenizers", name)
	dir := tinyDir(t, tiny.Shape{Type: kind, Vocab: rows, Hidden: 8, Heads: 1, Layers: 1, Tied: true})
	for _, file := range []string{"tokenizer.json", "tokenizer_config.json"} {
		text, err := os.ReadFile(filepath.Join(from, file))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestByteLevelVocabulary: ids, spellings and merges are those of the original files.
func TestByteLevelVocabulary(t *testing.T) {
	for _, tc := range []struct {
		kind, name, pre string
		rows, tokens    int
	}{{"llama", "gpt2", "gpt-2", 50304, 50257}, {"qwen2", "qwen2", "qwen2", 151936, 151646}} {
		f := write(t, source(t, withTokenizer(t, tc.kind, tc.name, tc.rows), model.Surgery{}), gguf.F16)
		tokens, types := spellings(t, f, "tokenizer.ggml.tokens"), list[int32](t, f, "tokenizer.ggml.token_type")
		if len(tokens) != tc.rows || len(types) != tc.rows || f.text1("tokenizer.ggml.pre") != tc.pre {
			t.Errorf("%s: %d tokens, %d types, cut as %s", tc.name, len(tokens), len(types), f.text1("tokenizer.ggml.pre"))
		}
		dir := modeltest.Data(t, "tokenizers", tc.name)
		var vocab map[string]int
		modeltest.JSON(t, filepath.Join(dir, "vocab.json"), &vocab)
		for spelling, id := range vocab {
			if tokens[id] != spelling || types[id] != 1 && spelling != "<|endoftext|>" {
				t.Fatalf("%s: token %d is %q of type %d, want %q", tc.name, id, tokens[id], types[id], spelling)
			}
		}
		end := slices.Index(tokens, "<|endoftext|>")
		if end < 0 || types[end] != 3 || types[tc.tokens] != 5 || tokens[tc.tokens] == tokens[tc.tokens+1] {
			t.Errorf("%s: <|endoftext|> is %d of type %d; %q has type %d", tc.name, end, types[max(end, 0)], tokens[tc.tokens], types[tc.tokens])
		}
		if got, want := spellings(t, f, "tokenizer.ggml.merges"), lines(t, filepath.Join(dir, "merges.txt")); !slices.Equal(got, want) {
			t.Errorf("%s: %d merges, the file has %d", tc.name, len(got), len(want))
		}
		if has := f.text1("tokenizer.chat_template") != ""; has != (tc.name == "qwen2") {
			t.Errorf("%s: chat template %v", tc.name, has)
		}
	}
}

func lines(t *testing.T, path string) (out []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimRight(line, "\r\n"); line != "" && !strings.HasPrefix(line, "#version") {
			out = append(out, line)
		}
	}
	return out
}

// TestSentencePieceVocabulary reads the tokens and scores back, merges as llama.cpp does, and finds the ids that
// SentencePiece gives.
func TestSentencePieceVocabulary(t *testing.T) {
	for _, tc := range []struct{ name, dir string }{
		{"stories260K", modeltest.Data(t, "models", "stories260K")}, {"mistral_v1", withTokenizer(t, "mistral", "mistral_v1", 32000)},
	} {
		f := write(t, source(t, tc.dir, model.Surgery{}), gguf.F32)
		if f.text1("tokenizer.ggml.model") != "llama" || f.number("tokenizer.ggml.unknown_token_id") != 0 {
			t.Errorf("%s: tokenizer %q", tc.name, f.text1("tokenizer.ggml.model"))
		}
		v := pieces{tokens: spellings(t, f, "tokenizer.ggml.tokens"), scores: list[float32](t, f, "tokenizer.ggml.scores"),
			types: list[int32](t, f, "tokenizer.ggml.token_type"), ids: map[string]int{}, space: f.number("tokenizer.ggml.add_space_prefix") == 1}
		for id, s := range v.tokens {
			v.ids[s] = id
		}
		if !slices.Equal(v.types[:4], []int32{2, 3, 3, 6}) {
			t.Errorf("%s: types %v", tc.name, v.types[:4])
		}
		checked := 0
		for text, want := range expected(t, tc.name) {
			if got := v.encode(text); !slices.Equal(got, want) {
				t.Errorf("%s: %q becomes %v, want %v", tc.name, text, got, want)
			}
			checked++
		}
		t.Logf("%s: %d texts", tc.name, checked)
	}
}

// pieces is a vocabulary as llama.cpp keeps it.
type pieces struct {
	tokens []string
	scores []float32
	types  []int32
	ids    map[string]int
	space  bool
}

// encode joins the neighbours that together make the token with the highest score, the leftmost first, until none do.
func (v *pieces) encode(text string) (ids []int) {
	if v.space && text != "" {
		text = " " + text
	}
	var parts []string
	for s := strings.ReplaceAll(text, " ", "\u2581"); s != ""; {
		_, n := utf8.DecodeRuneInString(s)
		parts, s = append(parts, s[:n]), s[n:]
	}
	for {
		best := -1
		for i := range len(parts) - 1 {
			id, ok := v.ids[parts[i]+parts[i+1]]
			if ok && (best < 0 || v.scores[id] > v.scores[v.ids[parts[best]+parts[best+1]]]) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		parts[best] += parts[best+1]
		parts = slices.Delete(parts, best+1, best+2)
	}
	for _, p := range parts {
		if id, ok := v.ids[p]; ok {
			ids = append(ids, id)
			continue
		}
		for _, b := range []byte(p) {
			ids = append(ids, v.ids["<0x"+string("0123456789ABCDEF"[b>>4])+string("0123456789ABCDEF"[b&15])+">"])
		}
	}
	return ids
}

// expected are texts with the ids that SentencePiece gives, but for those that look like control tokens.
func expected(t *testing.T, name string) map[string][]int {
	t.Helper()
	f, err := os.Open(modeltest.Data(t, "tokenizers", "expected", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string][]int{}
	for s := bufio.NewScanner(f); s.Scan(); {
		var row struct {
			Text string
			IDs  []int
		}
		if err := json.Unmarshal(s.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(row.Text, "<s>") && !strings.Contains(row.Text, "</s>") && len(row.Text) < 2000 {
			out[row.Text] = row.IDs
		}
	}
	return out
}
