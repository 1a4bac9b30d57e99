package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

const (
	maxFile   = 64 << 20 // bytes; the largest tokenizer.json in use has 34 MB
	maxConfig = 4 << 20
)

// LoadDir loads the tokenizer of a Hugging Face directory.
func LoadDir(dir string) (*Tokenizer, error) {
	t, err := Load(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("tokenizer in %s: %w", dir, err)
	}
	return t, nil
}

// Load loads a tokenizer from the files of a model: tokenizer.json, or vocab.json with merges.txt, or tokenizer.model
// (SentencePiece, or tiktoken ranks), or a .tiktoken file; the first of these that is there. tokenizer_config.json,
// special_tokens_map.json and chat_template.jinja add what they say. An error that wraps fs.ErrNotExist means that there
// is no tokenizer.
func Load(files fs.FS) (*Tokenizer, error) {
	c, err := readConfig(files)
	if err != nil {
		return nil, err
	}
	b, err := readVocabulary(files, c)
	if err != nil {
		return nil, err
	}
	t, err := b.finish(c)
	if err != nil {
		return nil, err
	}
	t.chat, t.template = newChat(c, t), c.template
	return t, nil
}

func readVocabulary(files fs.FS, c *config) (*builder, error) {
	for _, form := range []struct {
		name string
		read func(fs.FS, []byte, *config) (*builder, error)
	}{
		{"tokenizer.json", fromJSON}, {"vocab.json", fromVocab}, {"tokenizer.model", fromModel},
		{"cl100k_base.tiktoken", fromTiktoken},
	} {
		data, err := read(files, form.name, maxFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		b, err := form.read(files, data, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", form.name, err)
		}
		return b, nil
	}
	return nil, fmt.Errorf("no tokenizer.json, vocab.json, tokenizer.model or cl100k_base.tiktoken: %w", fs.ErrNotExist)
}

// read reads a file of at most limit bytes.
func read(files fs.FS, name string, limit int64) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return data, nil
}

// config is what tokenizer_config.json and the files beside it say.
type config struct {
	Class       string           `json:"tokenizer_class"`
	AddBOS      *bool            `json:"add_bos_token"`
	AddEOS      *bool            `json:"add_eos_token"`
	AddPrefix   *bool            `json:"add_prefix_space"`
	BOS         *tokenName       `json:"bos_token"`
	EOS         *tokenName       `json:"eos_token"`
	UNK         *tokenName       `json:"unk_token"`
	PAD         *tokenName       `json:"pad_token"`
	Added       map[string]added `json:"added_tokens_decoder"`
	RawTemplate json.RawMessage  `json:"chat_template"`

	template string // the template to use
}

// tokenName is a token's spelling, as a string or as the content of an object.
type tokenName string

func (n *tokenName) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*n = tokenName(s)
		return nil
	}
	var o struct{ Content string }
	if err := json.Unmarshal(b, &o); err != nil {
		return errors.New("a token is neither a string nor an object with content")
	}
	*n = tokenName(o.Content)
	return nil
}

// readConfig reads the files beside the vocabulary; each may be missing.
func readConfig(files fs.FS) (*config, error) {
	c := &config{}
	for _, name := range []string{"special_tokens_map.json", "tokenizer_config.json"} { // the second wins
		data, err := read(files, name, maxConfig)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(data, c); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := c.chooseTemplate(); err != nil {
		return nil, fmt.Errorf("tokenizer_config.json: %w", err)
	}
	data, err := read(files, "chat_template.jinja", maxConfig)
	switch {
	case err == nil:
		c.template = string(data)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return c, nil
}

// chooseTemplate takes the chat template, or of several the one named default.
func (c *config) chooseTemplate() error {
	if len(c.RawTemplate) == 0 || string(c.RawTemplate) == "null" {
		return nil
	}
	if json.Unmarshal(c.RawTemplate, &c.template) == nil {
		return nil
	}
	var list []struct{ Name, Template string }
	if err := json.Unmarshal(c.RawTemplate, &list); err != nil {
		return errors.New("chat_template is neither a string nor a list of named templates")
	}
	for _, t := range list {
		if t.Name == "default" || c.template == "" {
			c.template = t.Template
		}
	}
	return nil
}

// fromVocab reads vocab.json and merges.txt, GPT-2's form. They do not say how to split: the tokenizer's class does.
func fromVocab(files fs.FS, data []byte, c *config) (*builder, error) {
	b := newBuilder()
	vocab, err := readVocabJSON(data)
	if err != nil {
		return nil, err
	}
	text, err := read(files, "merges.txt", maxFile)
	if err != nil {
		return nil, err
	}
	b.model.byteLevel, b.decode.byteLevel = true, true
	sc := scanner(scanGPT2)
	switch c.Class {
	case "Qwen2Tokenizer", "Qwen2TokenizerFast":
		sc, _ = knownPattern(patternQwen2)
		b.normalize = append(b.normalize, nfc())
	case "", "GPT2Tokenizer", "GPT2TokenizerFast":
	default:
		return nil, fmt.Errorf("no rule how a %.60q splits text; convert it to tokenizer.json", c.Class)
	}
	b.split = scan(sc)
	if c.AddPrefix != nil && *c.AddPrefix {
		b.split = spaceBefore(b.split)
	}
	if err := b.vocabulary(vocab); err != nil {
		return nil, err
	}
	if id, ok := vocab["<|endoftext|>"]; ok {
		b.added = append(b.added, added{ID: id, Content: "<|endoftext|>", Special: true})
		if c.EOS == nil && c.Class == "" {
			name := tokenName("<|endoftext|>")
			c.EOS = &name
		}
	}
	return b, b.mergeRules(mergesTxt(text))
}

// mergesTxt yields the lines of merges.txt: two spellings with a space between them.
func mergesTxt(text []byte) []mergeRule {
	var out []mergeRule
	for line := range bytes.Lines(text) {
		s := strings.TrimRight(string(line), "\r\n")
		if s == "" || strings.HasPrefix(s, "#version") {
			continue
		}
		left, right, _ := strings.Cut(s, " ")
		out = append(out, mergeRule{left, right})
	}
	return out
}
