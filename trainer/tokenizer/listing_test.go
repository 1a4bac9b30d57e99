package tokenizer

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestList: every token of the real tokenizers is listed as what it is.
func TestList(t *testing.T) {
	for _, tc := range []struct {
		dir, splitting string
		size, merges   int // least merges
		kinds          map[string]TokenKind
		addBOS, space  bool
	}{
		{"tokenizers/gpt2", SplitGPT2, 50257, 50000, map[string]TokenKind{"<|endoftext|>": KindControl, "Ġthe": KindNormal}, false, false},
		{"tokenizers/qwen2", SplitQwen2, 151646, 151387, map[string]TokenKind{"<|im_end|>": KindControl, "Ġthe": KindNormal}, false, false},
		{"tokenizers/mistral_v1", "", 32000, 0, map[string]TokenKind{"<unk>": KindUnknown, "<s>": KindControl, "<0x0A>": KindByte, "▁the": KindNormal}, true, true},
		{"models/stories260K", "", 512, 0, map[string]TokenKind{"<unk>": KindUnknown, "<s>": KindControl, "<0x41>": KindByte, "▁t": KindNormal}, true, true},
	} {
		dir := filepath.Join("../../../shared/data", tc.dir)
		if _, err := os.Stat(dir); err != nil {
			t.Skipf("the shared test data is not here: %v", err)
		}
		tok, err := LoadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		l, err := tok.List()
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Spellings) != tc.size || len(l.Merges) < tc.merges || l.Splitting != tc.splitting || l.SpaceBefore != tc.space {
			t.Errorf("%s: %d tokens, %d merges, splitting %q, space %v", tc.dir, len(l.Spellings), len(l.Merges), l.Splitting, l.SpaceBefore)
		}
		for spelling, want := range tc.kinds {
			id, ok := tok.ID(spelling)
			if !ok || l.Kinds[id] != want || l.Spellings[id] != spelling {
				t.Errorf("%s: %s is %d, %v, listed as %q of kind %v, want %v", tc.dir, spelling, id, ok, l.Spellings[id], l.Kinds[id], want)
			}
		}
		if tc.dir != "tokenizers/mistral_v1" && l.AddBOS != tc.addBOS {
			t.Errorf("%s: begins with BOS: %v", tc.dir, l.AddBOS)
		}
		checkRanks(t, tc.dir, l)
	}
}

// checkRanks: merges are listed in order, and make the tokens that have their ranks.
func checkRanks(t *testing.T, dir string, l *Listing) {
	t.Helper()
	if l.ByteLevel {
		for i, m := range l.Merges {
			id := slices.Index(l.Spellings, m[0]+m[1])
			if id < 0 || int(l.Ranks[id]) > i {
				t.Fatalf("%s: merge %d (%q) makes token %d", dir, i, m, id)
			}
			if i > 200 {
				break // looking each up takes long
			}
		}
		return
	}
	made := 0
	for id, r := range l.Ranks {
		if r >= 0 && l.Kinds[id] != KindNormal {
			t.Errorf("%s: token %d of kind %v has a rank", dir, id, l.Kinds[id])
		}
		if r >= 0 {
			made++
		}
	}
	if made < len(l.Ranks)/4 {
		t.Errorf("%s: merges make %d of %d tokens", dir, made, len(l.Ranks))
	}
}

// TestListRefusesRanks: tiktoken's files rank tokens, and two merges may make one.
func TestListRefusesRanks(t *testing.T) {
	var text strings.Builder
	for i, token := range []string{"a", "b", "c", "ab", "bc", "abc"} {
		fmt.Fprintf(&text, "%s %d\n", base64.StdEncoding.EncodeToString([]byte(token)), i)
	}
	tok, err := Load(fstest.MapFS{"cl100k_base.tiktoken": {Data: []byte(text.String())}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.List(); err == nil || !strings.Contains(err.Error(), "ranks tokens") {
		t.Error(err)
	}
}

// TestSplittings: each way to cut is recognised however a file spells it, and one that only resembles it is not.
func TestSplittings(t *testing.T) {
	level := func(regex bool) string {
		return fmt.Sprintf(`{"type": "ByteLevel", "add_prefix_space": false, "use_regex": %v}`, regex)
	}
	split := func(pattern string) string {
		text, _ := json.Marshal(pattern)
		return fmt.Sprintf(`{"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": %s}, "behavior": "Isolated"}, %s]}`, text, level(false))
	}
	for want, pres := range map[string][]string{
		SplitGPT2:   {level(true), split(patternGPT2)},
		SplitLlama3: {split(patternLlama3), split(strings.Replace(patternLlama3, `(?i:'s|'t|'re|'ve|'m|'ll|'d)`, `(?i:'s|'d|'t|'re|'ve|'m|'ll)`, 1))},
		SplitQwen2:  {split(patternQwen2)},
		SplitDigits: {`{"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, ` + level(true) + `]}`},
		"":          {level(false), split(strings.Replace(patternLlama3, "{1,3}", "{1,2}", 1)), split(`\w+|\W`)},
	} {
		for _, pre := range pres {
			data := hfWith(t, map[string]string{"pre_tokenizer": pre, "decoder": level(true)})
			tok, err := Load(fstest.MapFS{"tokenizer.json": {Data: data}})
			if err != nil {
				t.Fatal(err)
			}
			if l, err := tok.List(); err != nil || l.Splitting != want {
				t.Errorf("%s is taken for %q, want %q, %v", pre, l.Splitting, want, err)
			}
		}
	}
}
