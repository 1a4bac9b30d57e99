package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/seed-7b27c88a/shoal/trainer/tokenizer/tokenizertest"
)

// hfWith is a small tokenizer.json with some of its parts replaced.
func hfWith(t testing.TB, parts map[string]string) []byte {
	t.Helper()
	f := map[string]json.RawMessage{
		"model": json.RawMessage(`{"type": "BPE", "vocab": {"a": 0, "b": 1, " ": 2, "ab": 3, "▁": 4, "▁a": 5, "1": 6, "2": 7, "12": 8, "é": 9, ".": 10, "A": 11, "?": 12}, "merges": ["a b", ["▁", "a"], ["1", "2"]], "unk_token": "?"}`),
	}
	for k, v := range parts {
		f[k] = json.RawMessage(v)
	}
	out, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func load(data []byte, config string) (*Tokenizer, error) {
	return Load(fstest.MapFS{"tokenizer.json": {Data: data}, "tokenizer_config.json": {Data: []byte(config)}})
}

// TestParts loads each kind of normalizer, pre-tokenizer, post-processor and added token, and encodes with it.
func TestParts(t *testing.T) {
	for name, tc := range map[string]struct {
		parts      map[string]string
		text, want string // spellings joined with |
	}{
		"plain":            {nil, "aab ab", "a|ab| |ab"},
		"unknown":          {nil, "axyb", "a|?|?|b"},
		"NFC":              {map[string]string{"normalizer": `{"type": "NFC"}`}, "e\u0301", "é"},
		"NFD":              {map[string]string{"normalizer": `{"type": "NFD"}`}, "é", "?|?"},
		"NFKC":             {map[string]string{"normalizer": `{"type": "NFKC"}`}, "①", "1"},
		"NFKD":             {map[string]string{"normalizer": `{"type": "NFKD"}`}, "½", "1|?|2"},
		"lower":            {map[string]string{"normalizer": `{"type": "Lowercase"}`}, "AB", "ab"},
		"accents":          {map[string]string{"normalizer": `{"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]}`}, "a\u0301b", "ab"},
		"strip":            {map[string]string{"normalizer": `{"type": "Strip", "strip_left": true, "strip_right": true}`}, " ab ", "ab"},
		"prepend":          {map[string]string{"normalizer": `{"type": "Prepend", "prepend": "▁"}`}, "ab", "▁|ab"},
		"replace":          {map[string]string{"normalizer": `{"type": "Replace", "pattern": {"String": "x"}, "content": "ab"}`}, "xx", "ab|ab"},
		"replace, regex":   {map[string]string{"normalizer": `{"type": "Replace", "pattern": {"Regex": "x+"}, "content": "ab"}`}, "xxaxb", "ab|a|ab|b"},
		"split, isolated":  {map[string]string{"pre_tokenizer": `{"type": "Split", "pattern": {"String": "b"}, "behavior": "Isolated"}`}, "abab", "a|b|a|b"},
		"split, removed":   {map[string]string{"pre_tokenizer": `{"type": "Split", "pattern": {"String": " "}, "behavior": "Removed"}`}, "ab ab", "ab|ab"},
		"split, previous":  {map[string]string{"pre_tokenizer": `{"type": "Split", "pattern": {"String": "b"}, "behavior": "MergedWithPrevious"}`}, "abab", "ab|ab"},
		"split, next":      {map[string]string{"pre_tokenizer": `{"type": "Split", "pattern": {"String": "a"}, "behavior": "MergedWithNext"}`}, "aab", "a|ab"},
		"split, regex":     {map[string]string{"pre_tokenizer": `{"type": "Split", "pattern": {"Regex": "[ab]"}, "behavior": "Isolated"}`}, "ab12", "a|b|12"},
		"split, inverted":  {map[string]string{"pre_tokenizer": `{"type": "Split", "pattern": {"Regex": "[a-z]+"}, "behavior": "Removed", "invert": true}`}, "ab 12ab", "ab|ab"},
		"split, joined":    {map[string]string{"pre_tokenizer": `{"type": "Split", "pattern": {"Regex": "[12]"}, "behavior": "Contiguous"}`}, "12ab", "12|ab"},
		"digits":           {map[string]string{"pre_tokenizer": `{"type": "Digits", "individual_digits": true}`}, "ab12", "ab|1|2"},
		"digits, together": {map[string]string{"pre_tokenizer": `{"type": "Digits"}`}, "ab12", "ab|12"},
		"punctuation":      {map[string]string{"pre_tokenizer": `{"type": "Punctuation"}`}, "ab.", "ab|."},
		"whitespace":       {map[string]string{"pre_tokenizer": `{"type": "Whitespace"}`}, " ab. ab", "ab|.|ab"},
		"whitespace split": {map[string]string{"pre_tokenizer": `{"type": "WhitespaceSplit"}`}, " ab ab\n", "ab|ab"},
		"metaspace":        {map[string]string{"pre_tokenizer": `{"type": "Metaspace", "replacement": "▁"}`}, "a b", "▁a|▁|b"},
		"metaspace, never": {map[string]string{"pre_tokenizer": `{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"}`}, "a a", "a|▁a"},
		"metaspace, first": {map[string]string{
			"pre_tokenizer": `{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false}`,
			"added_tokens":  `[{"id": 20, "content": "<x>", "special": true}]`}, "a<x>a", "▁a|<x>|a"},
		"metaspace, always": {map[string]string{
			"pre_tokenizer": `{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}`,
			"added_tokens":  `[{"id": 20, "content": "<x>", "special": true}]`}, "a<x>a", "▁a|<x>|▁a"},
		"added, longest":  {map[string]string{"added_tokens": `[{"id": 20, "content": "aa"}, {"id": 21, "content": "aab"}]`}, "aaab", "aa|ab"},
		"added, leftmost": {map[string]string{"added_tokens": `[{"id": 20, "content": "aa"}, {"id": 21, "content": "aab"}]`}, "1aab", "1|aab"},
		"added, strips":   {map[string]string{"added_tokens": `[{"id": 20, "content": "<x>", "lstrip": true, "rstrip": true}]`}, "a  <x> \n b", "a|<x>|b"},
		"added, alone":    {map[string]string{"added_tokens": `[{"id": 20, "content": "12", "single_word": true}, {"id": 21, "content": "ab", "single_word": true}]`}, "ab.ab1 12", "ab|.|ab|1| |12"},
		"added, normalized": {map[string]string{"normalizer": `{"type": "Lowercase"}`,
			"added_tokens": `[{"id": 20, "content": "X", "normalized": true}, {"id": 21, "content": "Y"}]`}, "xXyY", "X|X|?|Y"},
	} {
		t.Run(name, func(t *testing.T) {
			tok, err := load(hfWith(t, tc.parts), "{}")
			if err != nil {
				t.Fatal(err)
			}
			ids, err := tok.EncodeSpecial(tc.text)
			got := spellings(t, tok, ids, err)
			if got = strings.ReplaceAll(strings.ReplaceAll(got, "   ", "| |"), " ", "|"); strings.ReplaceAll(got, "|||", "| |") != tc.want {
				t.Errorf("%q: got %s, want %s", tc.text, got, tc.want)
			}
		})
	}
}

func TestEnds(t *testing.T) {
	template := `{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "B"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "E"}}], "special_tokens": {"B": {"tokens": ["<b>"]}, "E": {"tokens": ["<e>"]}}}`
	addedTokens := `[{"id": 20, "content": "<b>", "special": true}, {"id": 21, "content": "<e>", "special": true}]`
	const names = `"bos_token": "<b>", "eos_token": {"content": "<e>"}`
	for name, tc := range map[string]struct{ post, config, prompt, full string }{
		"template":         {template, `{` + names + `}`, "<b> ab", "<b> ab <e>"},
		"config against":   {template, `{` + names + `, "add_bos_token": false, "add_eos_token": false}`, "ab", "ab"},
		"config alone":     {"null", `{` + names + `, "add_bos_token": true, "add_eos_token": true}`, "<b> ab", "<b> ab <e>"},
		"names alone":      {"null", `{` + names + `}`, "ab", "ab"},
		"template alone":   {template, `{}`, "<b> ab", "<b> ab <e>"},
		"byte level, too":  {`{"type": "Sequence", "processors": [{"type": "ByteLevel"}, ` + template + `]}`, `{}`, "<b> ab", "<b> ab <e>"},
		"name of no token": {"null", `{"bos_token": "nope", "add_bos_token": true}`, "ab", "ab"},
	} {
		tok, err := load(hfWith(t, map[string]string{"post_processor": tc.post, "added_tokens": addedTokens}), tc.config)
		if err != nil {
			t.Fatal(name, err)
		}
		ids, err := tok.Prompt("ab")
		if got := spellings(t, tok, ids, err); got != tc.prompt {
			t.Errorf("%s: Prompt gives %s, want %s", name, got, tc.prompt)
		}
		ids, err = tok.Full("ab")
		if got := spellings(t, tok, ids, err); got != tc.full {
			t.Errorf("%s: Full gives %s, want %s", name, got, tc.full)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	bpe := func(s string) map[string]string { return map[string]string{"model": `{"type": "BPE", ` + s + `}`} }
	many := make([]string, 65)
	for i := range many {
		many[i] = `{"type": "NFC"}`
	}
	for name, tc := range map[string]struct {
		parts  map[string]string
		config string
		want   string
	}{
		"unigram":            {map[string]string{"model": `{"type": "Unigram", "vocab": []}`}, "", `model of type "Unigram"`},
		"no vocabulary":      {bpe(`"vocab": {}, "merges": []`), "", "the vocabulary is empty"},
		"huge id":            {bpe(`"vocab": {"a": 2000000000}, "merges": []`), "", "has id 2000000000"},
		"id beyond 32 bits":  {bpe(`"vocab": {"a": 20000000000}, "merges": []`), "", "vocabulary: "},
		"negative id":        {bpe(`"vocab": {"a": -1}, "merges": []`), "", "has id -1"},
		"one id, two tokens": {bpe(`"vocab": {"a": 0, "b": 0}, "merges": []`), "", `id 0 is both "a" and "b"`},
		"merge of strangers": {bpe(`"vocab": {"a": 0}, "merges": ["a b"]`), "", "not of tokens in the vocabulary"},
		"merge of three":     {bpe(`"vocab": {"a": 0}, "merges": ["a b c"]`), "", "is not two tokens"},
		"merge of one":       {bpe(`"vocab": {"a": 0}, "merges": [["a"]]`), "", "is not two tokens"},
		"suffixes":           {bpe(`"vocab": {"a": 0}, "merges": [], "end_of_word_suffix": "</w>"`), "", "end_of_word_suffix is not supported"},
		"normalizer":         {map[string]string{"normalizer": `{"type": "Precompiled"}`}, "", `normalizer "Precompiled" is not supported`},
		"normalizer, empty":  {map[string]string{"normalizer": `{"type": "Replace"}`}, "", "without a pattern"},
		"many normalizers":   {map[string]string{"normalizer": `{"type": "Sequence", "normalizers": [` + strings.Join(many, ",") + `]}`}, "", "a sequence of 65 parts"},
		"pre-tokenizer":      {map[string]string{"pre_tokenizer": `{"type": "BertPreTokenizer"}`}, "", "is not supported"},
		"after byte level":   {map[string]string{"pre_tokenizer": `{"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "Digits"}]}`}, "", "after ByteLevel"},
		"behavior":           {map[string]string{"pre_tokenizer": `{"type": "Split", "pattern": {"String": "a"}, "behavior": "x"}`}, "", "is not supported"},
		"broken pattern":     {map[string]string{"pre_tokenizer": `{"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"}`}, "", "pattern"},
		"long pattern":       {map[string]string{"pre_tokenizer": `{"type": "Split", "pattern": {"Regex": "` + strings.Repeat("a", 5000) + `"}, "behavior": "Isolated"}`}, "", "at most 4096"},
		"post-processor":     {map[string]string{"post_processor": `{"type": "BertProcessing"}`}, "", "is not supported"},
		"ends unknown":       {map[string]string{"post_processor": `{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "B"}}], "special_tokens": {"B": {"tokens": ["<b>"]}}}`}, "", "which is not a token"},
		"decoder":            {map[string]string{"decoder": `{"type": "CTC"}`}, "", `decoder "CTC" is not supported`},
		"added, empty":       {map[string]string{"added_tokens": `[{"id": 20, "content": ""}]`}, "", "an added token is empty"},
		"added, long":        {map[string]string{"added_tokens": `[{"id": 20, "content": "` + strings.Repeat("a", 300) + `"}]`}, "", "has 300 bytes"},
		"added, other id":    {map[string]string{"added_tokens": `[{"id": 0, "content": "zz"}]`}, "", "id 0 is both"},
		"added, huge id":     {map[string]string{"added_tokens": `[{"id": 2000000000, "content": "zz"}]`}, "", "has id 2000000000"},
		"not JSON":           {map[string]string{"added_tokens": `3`}, "", "tokenizer.json: "},
		"config not JSON":    {nil, "[", "tokenizer_config.json: "},
		"config, odd token":  {nil, `{"bos_token": 3}`, "neither a string nor an object"},
		"config, odd added":  {nil, `{"added_tokens_decoder": {"x": {"content": "y"}}}`, "is not an id"},
		"config, template":   {nil, `{"chat_template": 3}`, "neither a string nor a list"},
	} {
		if tc.config == "" {
			tc.config = "{}"
		}
		if _, err := load(hfWith(t, tc.parts), tc.config); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
	if _, err := Load(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no files: %v", err)
	}
	if _, err := Load(fstest.MapFS{"vocab.json": {Data: []byte(`{"a": 0}`)}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no merges: %v", err)
	}
	if _, err := Load(fstest.MapFS{"vocab.json": {Data: []byte(`{"a": 0}`)}, "merges.txt": {Data: []byte("a b\n")}}); err == nil {
		t.Error("merges of strangers are accepted")
	}
}

// TestGrowingText: what is put in the place of a character may not fill the memory.
func TestGrowingText(t *testing.T) {
	double := strings.Repeat(`{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"},`, 60)
	double = "[" + double[:len(double)-1] + "]"
	for name, parts := range map[string]map[string]string{
		"long replacement":   {"normalizer": `{"type": "Replace", "pattern": {"String": "a"}, "content": "` + strings.Repeat("b", 1<<20) + `"}`},
		"doubling":           {"normalizer": `{"type": "Sequence", "normalizers": ` + double + `}`},
		"growing by pattern": {"normalizer": `{"type": "Replace", "pattern": {"Regex": "a"}, "content": "` + strings.Repeat("b", 1<<20) + `"}`},
	} {
		tok, err := load(hfWith(t, parts), "{}")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tok.Encode(strings.Repeat("a", 1000)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := load(hfWith(t, map[string]string{"decoder": `{"type": "Sequence", "decoders": ` + double + `}`}), "{}"); err == nil {
		t.Error("a decoder that doubles is accepted")
	}
}

// TestSlowPattern: a pattern that backtracks without end gives an error in time.
func TestSlowPattern(t *testing.T) {
	tok, err := load(hfWith(t, map[string]string{"pre_tokenizer": `{"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}`}), "{}")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := tok.Encode(strings.Repeat("a", 1000) + "b"); err == nil {
		t.Error("no error")
	}
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestChooseTemplate(t *testing.T) {
	for config, want := range map[string]string{
		`{"chat_template": "one"}`: "one",
		`{"chat_template": [{"name": "tool", "template": "no"}, {"name": "default", "template": "yes"}]}`: "yes",
		`{"chat_template": [{"name": "tool", "template": "only"}]}`:                                       "only",
	} {
		tok, err := load(hfWith(t, nil), config)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tok.Render(json.RawMessage(`[{"role": "user", "content": ""}]`), nil, false)
		if err != nil || got != want || !tok.HasTemplate() {
			t.Errorf("%s: %q, %v", config, got, err)
		}
	}
	tok, err := Load(fstest.MapFS{
		"tokenizer.json": {Data: hfWith(t, nil)}, "tokenizer_config.json": {Data: []byte(`{"chat_template": "old"}`)},
		"chat_template.jinja": {Data: []byte("new")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := tok.Render(json.RawMessage(`[{"role": "user", "content": ""}]`), nil, false); got != "new" {
		t.Errorf("%q", got)
	}
}

func TestStreamingDecoder(t *testing.T) {
	tok := small(t, tokenizertest.Options{})
	text := "naïve 漢字 🙂!"
	ids, err := tok.Encode(text)
	if err != nil {
		t.Fatal(err)
	}
	d := tok.Decoder()
	var out strings.Builder
	for _, id := range ids {
		s := d.Next(id)
		if strings.ContainsRune(s, '\ufffd') {
			t.Fatalf("half a character came out: %q", s)
		}
		out.WriteString(s)
	}
	if out.WriteString(d.Flush()); out.String() != text {
		t.Errorf("%q", out.String())
	}
	d = tok.Decoder()
	if got := d.Next(ids[2]) + d.Flush() + d.Flush(); got != "\ufffd" {
		t.Errorf("a half character at the end: %q", got)
	}
}

func TestLossy(t *testing.T) {
	for in, want := range map[string]string{
		"a\xffb": "a\ufffdb", "\xe2\x82": "\ufffd", "\xe2\x82a": "\ufffda", "\xf0\x9f\x99": "\ufffd", "\xff\xff": "\ufffd\ufffd",
		"\xc0\x80": "\ufffd\ufffd", "\xed\xa0\x80": "\ufffd\ufffd\ufffd", "\xf0\x9f\xe2\x82\xac": "\ufffd€", "ok": "ok",
	} {
		if got := lossy([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzTokenizerJSON(f *testing.F) {
	f.Add(hfWith(f, nil), []byte(`{"bos_token": "a", "add_bos_token": true}`))
	f.Add(hfWith(f, map[string]string{
		"normalizer":     `{"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}`,
		"pre_tokenizer":  `{"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "[a-z]+|."}, "behavior": "Isolated"}, {"type": "Digits", "individual_digits": true}]}`,
		"post_processor": `{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "a"}}, {"Sequence": {"id": "A"}}], "special_tokens": {"a": {"tokens": ["a"]}}}`,
		"decoder":        `{"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}`,
		"added_tokens":   `[{"id": 20, "content": "<x>", "special": true, "lstrip": true}]`,
	}), []byte(`{"chat_template": "{{ messages[0].content }}"}`))
	files, err := tokenizertest.Files(tokenizertest.Options{Text: "the cat the hat", Size: 262})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(files["tokenizer.json"], files["tokenizer_config.json"])
	f.Fuzz(func(t *testing.T, data, config []byte) {
		tok, err := load(data, string(config))
		if err != nil {
			return
		}
		use(t, tok)
		_, _, _ = tok.Chat(json.RawMessage(`[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]`), nil) // must return
	})
}

func FuzzVocab(f *testing.F) {
	f.Add([]byte(`{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}`), []byte("#version: 0.2\na b\n"))
	f.Add([]byte(`{"a": 99999999}`), []byte("a  b\n\n"))
	f.Fuzz(func(t *testing.T, vocab, merges []byte) {
		tok, err := Load(fstest.MapFS{"vocab.json": {Data: vocab}, "merges.txt": {Data: merges}})
		if err == nil {
			use(t, tok)
		}
	})
}

func FuzzChat(f *testing.F) {
	f.Add([]byte(`[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]`), []byte(`[{"type": "function"}]`))
	f.Add([]byte(`[{"role": "assistant", "content": null, "tool_calls": [{"a": 1}], "weight": 0}]`), []byte(`null`))
	tok := byteTokenizer(f, "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</s>{{ tools | tojson if tools }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}")
	plain := byteTokenizer(f, "")
	f.Fuzz(func(t *testing.T, messages, tools []byte) {
		for _, tok := range []*Tokenizer{tok, plain} {
			ids, said, err := tok.Chat(messages, tools)
			if err != nil {
				continue
			}
			if len(ids) != len(said) {
				t.Fatalf("%d ids, %d marks", len(ids), len(said))
			}
			if text, err := tok.Render(messages, tools, false); err != nil || !strings.Contains(tok.DecodeAll(ids), text) {
				t.Fatalf("%q, %v is not what was encoded: %q", text, err, tok.DecodeAll(ids))
			}
		}
	})
}

func ExampleTokenizer_Encode() {
	files, _ := tokenizertest.Files(tokenizertest.Options{Text: "low lower lowest", Size: 262})
	fsys := fstest.MapFS{}
	for name, data := range files {
		fsys[name] = &fstest.MapFile{Data: data}
	}
	tok, err := Load(fsys)
	if err != nil {
		fmt.Println(err)
		return
	}
	ids, _ := tok.Encode("slow lower")
	for _, id := range ids {
		fmt.Printf("%q ", tok.Spelling(id))
	}
	fmt.Println(tok.Decode(ids))
	// Output: "s" "low" "Ġlowe" "r" slow lower
}
