// Package tokenizertest writes small but real tokenizers in the files of a Hugging Face directory, for tests and for the
// demo, which have no model to take one from. What it writes is byte-level BPE: every text can be encoded, unless Alphabet
// leaves bytes out, which are then dropped.
package tokenizertest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Options say what to write. The zero value is a tokenizer of 256 bytes and the two special tokens, without merges.
type Options struct {
	Text     string   // merges are learned from it; empty: none
	Size     int      // tokens in all that learning may reach; 0: no merges
	Special  []string // special tokens beside BOS and EOS, as <|im_end|>
	BOS, EOS string   // default <s>, </s>
	Template string   // chat template; empty: none
	Alphabet string   // bytes that are tokens, so that a tiny vocabulary fits a tiny model; empty: all 256
	NoAddBOS bool     // texts do not begin with BOS
}

// Files returns tokenizer.json, tokenizer_config.json and special_tokens_map.json by name.
func Files(o Options) (map[string][]byte, error) {
	if o.BOS == "" {
		o.BOS = "<s>"
	}
	if o.EOS == "" {
		o.EOS = "</s>"
	}
	v := newVocabulary(o)
	merges := v.learn(o)
	out := map[string][]byte{}
	for name, content := range map[string]any{
		"tokenizer.json":          tokenizerJSON(o, v, merges),
		"tokenizer_config.json":   config(o),
		"special_tokens_map.json": map[string]string{"bos_token": o.BOS, "eos_token": o.EOS},
	} {
		data, err := json.MarshalIndent(content, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("write tokenizer: %w", err)
		}
		out[name] = append(data, '\n')
	}
	return out, nil
}

// WriteDir writes Files into dir and returns the size of the vocabulary.
func WriteDir(dir string, o Options) (int, error) {
	files, err := Files(o)
	if err != nil {
		return 0, err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return 0, fmt.Errorf("write tokenizer: %w", err)
		}
	}
	var f struct {
		Model struct{ Vocab map[string]int }
	}
	if err := json.Unmarshal(files["tokenizer.json"], &f); err != nil {
		return 0, err
	}
	return len(f.Model.Vocab), nil
}

// vocabulary numbers spellings: special tokens first, then bytes, then what merges make.
type vocabulary struct {
	ids       map[string]int
	spellings []string
}

func newVocabulary(o Options) *vocabulary {
	v := &vocabulary{ids: map[string]int{}}
	for _, s := range append([]string{o.BOS, o.EOS}, o.Special...) {
		v.add(s)
	}
	for b := range 256 {
		if o.Alphabet == "" || strings.IndexByte(o.Alphabet, byte(b)) >= 0 {
			v.add(string(spelled(byte(b))))
		}
	}
	return v
}

func (v *vocabulary) add(s string) {
	if _, ok := v.ids[s]; !ok {
		v.ids[s] = len(v.spellings)
		v.spellings = append(v.spellings, s)
	}
}

// spelled is the character that byte-level BPE writes for a byte.
func spelled(b byte) rune {
	printable := func(b int) bool { return b >= '!' && b <= '~' || b >= 0xa1 && b != 0xad }
	if printable(int(b)) {
		return rune(b)
	}
	n := rune(0x100)
	for c := range int(b) {
		if !printable(c) {
			n++
		}
	}
	return n
}

// learn finds merges: again and again the most frequent pair of neighbours inside a word, of equally frequent ones the
// first in alphabetical order (Sennrich et al. 2016, arXiv:1508.07909). A word is a run of letters with the space before it, or
// any other single character.
func (v *vocabulary) learn(o Options) []string {
	var merges []string
	words := v.words(o.Text)
	for len(v.spellings) < o.Size {
		left, right, ok := mostFrequent(words)
		if !ok {
			break
		}
		merges = append(merges, left+" "+right)
		v.add(left + right)
		for i := range words {
			words[i].parts = merged(words[i].parts, left, right)
		}
	}
	return merges
}

type word struct {
	parts []string
	count int
}

func (v *vocabulary) words(text string) []word {
	count := map[string]int{}
	isLetter := func(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' }
	for i := 0; i < len(text); {
		j := i + 1
		if isLetter(text[i]) || text[i] == ' ' {
			for j < len(text) && isLetter(text[j]) {
				j++
			}
		}
		count[text[i:j]]++
		i = j
	}
	var out []word
	for w, n := range count {
		var parts []string
		for i := range len(w) {
			parts = append(parts, string(spelled(w[i])))
		}
		if !slices.ContainsFunc(parts, func(p string) bool { _, ok := v.ids[p]; return !ok }) {
			out = append(out, word{parts, n})
		}
	}
	return out
}

func mostFrequent(words []word) (left, right string, ok bool) {
	count := map[[2]string]int{}
	for _, w := range words {
		for i := range len(w.parts) - 1 {
			count[[2]string{w.parts[i], w.parts[i+1]}] += w.count
		}
	}
	var best [2]string
	for p, n := range count {
		if n > count[best] || n == count[best] && slices.Compare(p[:], best[:]) < 0 {
			best = p
		}
	}
	return best[0], best[1], count[best] > 1
}

func merged(parts []string, left, right string) []string {
	var out []string
	for i := 0; i < len(parts); i++ {
		if i+1 < len(parts) && parts[i] == left && parts[i+1] == right {
			out = append(out, left+right)
			i++
			continue
		}
		out = append(out, parts[i])
	}
	return out
}

type obj = map[string]any

func tokenizerJSON(o Options, v *vocabulary, merges []string) any {
	var added []obj
	for _, s := range append([]string{o.BOS, o.EOS}, o.Special...) {
		added = append(added, obj{
			"id": v.ids[s], "content": s, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
		})
	}
	if merges == nil {
		merges = []string{}
	}
	out := obj{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "normalizer": nil,
		"pre_tokenizer":  obj{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
		"post_processor": nil,
		"decoder":        obj{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
		"model": obj{
			"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
			"fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": v.ids, "merges": merges,
		},
	}
	if !o.NoAddBOS {
		out["post_processor"] = obj{
			"type": "TemplateProcessing",
			"single": []obj{
				{"SpecialToken": obj{"id": o.BOS, "type_id": 0}}, {"Sequence": obj{"id": "A", "type_id": 0}},
			},
			"pair": []obj{
				{"SpecialToken": obj{"id": o.BOS, "type_id": 0}}, {"Sequence": obj{"id": "A", "type_id": 0}},
				{"Sequence": obj{"id": "B", "type_id": 1}},
			},
			"special_tokens": obj{o.BOS: obj{"id": o.BOS, "ids": []int{v.ids[o.BOS]}, "tokens": []string{o.BOS}}},
		}
	}
	return out
}

func config(o Options) any {
	out := obj{
		"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": o.BOS, "eos_token": o.EOS,
		"clean_up_tokenization_spaces": false, "model_max_length": 1 << 20,
	}
	if o.Template != "" {
		out["chat_template"] = o.Template
	}
	return out
}
