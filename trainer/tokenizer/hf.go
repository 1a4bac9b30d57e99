package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// hfFile is tokenizer.json.
type hfFile struct {
	Added         []added `json:"added_tokens"`
	Normalizer    *hfPart `json:"normalizer"`
	PreTokenizer  *hfPart `json:"pre_tokenizer"`
	PostProcessor *hfPart `json:"post_processor"`
	Decoder       *hfPart `json:"decoder"`
	Model         hfModel `json:"model"`
}

type hfModel struct {
	Type         string          `json:"type"`
	Vocab        json.RawMessage `json:"vocab"`
	Merges       []hfMerge       `json:"merges"`
	Unk          *string         `json:"unk_token"`
	Prefix       *string         `json:"continuing_subword_prefix"`
	Suffix       *string         `json:"end_of_word_suffix"`
	FuseUnk      bool            `json:"fuse_unk"`
	ByteFallback bool            `json:"byte_fallback"`
	IgnoreMerges bool            `json:"ignore_merges"`
}

// hfMerge is "a b" or ["a", "b"].
type hfMerge mergeRule

func (m *hfMerge) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		var ok bool
		if m.left, m.right, ok = strings.Cut(s, " "); !ok || strings.Contains(m.right, " ") {
			return fmt.Errorf("merge %.60q is not two tokens", s)
		}
		return nil
	}
	var two []string
	if err := json.Unmarshal(b, &two); err != nil || len(two) != 2 {
		return fmt.Errorf("merge %.60s is not two tokens", b)
	}
	m.left, m.right = two[0], two[1]
	return nil
}

// hfPart is any normalizer, pre-tokenizer, post-processor or decoder: the fields of all of them.
type hfPart struct {
	Type          string       `json:"type"`
	Normalizers   []hfPart     `json:"normalizers"`
	PreTokenizers []hfPart     `json:"pretokenizers"`
	Processors    []hfPart     `json:"processors"`
	Decoders      []hfPart     `json:"decoders"`
	Pattern       *hfPattern   `json:"pattern"`
	Content       string       `json:"content"`
	Prepend       string       `json:"prepend"`
	Left          bool         `json:"strip_left"`
	Right         bool         `json:"strip_right"`
	Behavior      string       `json:"behavior"`
	Invert        bool         `json:"invert"`
	Individual    bool         `json:"individual_digits"`
	AddPrefix     *bool        `json:"add_prefix_space"`
	UseRegex      *bool        `json:"use_regex"`
	Replacement   string       `json:"replacement"`
	Scheme        string       `json:"prepend_scheme"`
	Cut           *bool        `json:"split"`
	Start         int          `json:"start"`
	Stop          int          `json:"stop"`
	Single        []hfTemplate `json:"single"`
	Special       map[string]struct {
		Tokens []string `json:"tokens"`
	} `json:"special_tokens"`
}

type hfPattern struct {
	String *string `json:"String"`
	Regex  *string `json:"Regex"`
}

type hfTemplate struct {
	SpecialToken *struct {
		ID string `json:"id"`
	} `json:"SpecialToken"`
	Sequence *struct {
		ID string `json:"id"`
	} `json:"Sequence"`
}

// fromJSON reads tokenizer.json.
func fromJSON(_ fs.FS, data []byte, _ *config) (*builder, error) {
	var f hfFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	b := newBuilder()
	b.added = f.Added
	for _, step := range []func(*hfFile) error{b.hfNormalizer, b.hfSplitter, b.hfModel, b.hfEnds, b.hfDecoder} {
		if err := step(&f); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *builder) hfModel(f *hfFile) error {
	m := f.Model
	if m.Type == "" && m.Merges != nil {
		m.Type = "BPE" // old files leave it out
	}
	if m.Type != "BPE" {
		return fmt.Errorf("model of type %.40q; this shoal reads BPE", m.Type)
	}
	if set(m.Prefix) || set(m.Suffix) {
		return errors.New("BPE with continuing_subword_prefix or end_of_word_suffix is not supported")
	}
	b.model.byteFallback, b.model.fuseUnk, b.model.ignoreMerges = m.ByteFallback, m.FuseUnk, m.IgnoreMerges
	vocab, err := readVocabJSON(m.Vocab)
	if err != nil {
		return err
	}
	if err := b.vocabulary(vocab); err != nil {
		return err
	}
	if m.Unk != nil {
		if id, ok := vocab[*m.Unk]; ok {
			b.model.unk = id
		}
	}
	if len(m.Merges) > maxVocab {
		return fmt.Errorf("%d merges; at most %d", len(m.Merges), maxVocab)
	}
	rules := make([]mergeRule, len(m.Merges))
	for i, r := range m.Merges {
		rules[i] = mergeRule(r)
	}
	b.bySpace = f.PreTokenizer == nil && !b.model.byteLevel
	return b.mergeRules(rules)
}

// maxMark bounds the bytes of what is written for a space or before a text; they are written often.
const maxMark = 64

func set(s *string) bool { return s != nil && *s != "" }

// flatten lists the parts of a Sequence, and of sequences in it.
func flatten(p *hfPart, inner func(*hfPart) []hfPart) ([]hfPart, error) {
	if p == nil {
		return nil, nil
	}
	if p.Type != "Sequence" {
		return []hfPart{*p}, nil
	}
	var out []hfPart
	for _, q := range inner(p) {
		parts, err := flatten(&q, inner) // JSON's nesting bounds the recursion
		if err != nil {
			return nil, err
		}
		out = append(out, parts...)
	}
	if len(out) > 64 {
		return nil, fmt.Errorf("a sequence of %d parts", len(out))
	}
	return out, nil
}

func (b *builder) hfNormalizer(f *hfFile) error {
	parts, err := flatten(f.Normalizer, func(p *hfPart) []hfPart { return p.Normalizers })
	if err != nil {
		return err
	}
	for _, p := range parts {
		step, err := hfNormStep(&p)
		if err != nil {
			return err
		}
		b.normalize = append(b.normalize, step)
	}
	return nil
}

func hfNormStep(p *hfPart) (normStep, error) {
	switch p.Type {
	case "NFC":
		return form(norm.NFC), nil
	case "NFD":
		return form(norm.NFD), nil
	case "NFKC":
		return form(norm.NFKC), nil
	case "NFKD":
		return form(norm.NFKD), nil
	case "Lowercase":
		return pure(strings.ToLower), nil
	case "StripAccents":
		return pure(stripAccents), nil
	case "Strip":
		return trim(p.Left, p.Right), nil
	case "Prepend":
		if len(p.Prepend) > maxMark {
			return nil, fmt.Errorf("normalizer Prepend of %d bytes", len(p.Prepend))
		}
		return prepend(p.Prepend), nil
	case "Replace":
		switch {
		case p.Pattern != nil && p.Pattern.String != nil:
			return replace(*p.Pattern.String, p.Content), nil
		case p.Pattern != nil && p.Pattern.Regex != nil:
			return replacePattern(*p.Pattern.Regex, p.Content)
		}
		return nil, errors.New("normalizer Replace without a pattern")
	}
	return nil, fmt.Errorf("normalizer %.40q is not supported", p.Type)
}

func (b *builder) hfSplitter(f *hfFile) error {
	parts, err := flatten(f.PreTokenizer, func(p *hfPart) []hfPart { return p.PreTokenizers })
	if err != nil {
		return err
	}
	for i, p := range parts {
		if b.model.byteLevel {
			return fmt.Errorf("pre-tokenizer %.40q after ByteLevel is not supported", p.Type)
		}
		b.model.byteLevel = p.Type == "ByteLevel"
		next, err := hfSplit(&p)
		if err != nil {
			return err
		}
		if i == 0 {
			b.split = next
		} else {
			b.split = then(b.split, next)
		}
	}
	return nil
}

func hfSplit(p *hfPart) (splitter, error) {
	switch p.Type {
	case "ByteLevel":
		next := splitter(whole)
		if p.UseRegex == nil || *p.UseRegex {
			next = scan(scanGPT2)
		}
		if p.AddPrefix == nil || *p.AddPrefix {
			next = spaceBefore(next)
		}
		return next, nil
	case "Split":
		return hfSplitPattern(p)
	case "Metaspace":
		scheme := p.Scheme
		if scheme == "" {
			scheme = "always"
			if p.AddPrefix != nil && !*p.AddPrefix {
				scheme = "never"
			}
		}
		if p.Replacement == "" || len(p.Replacement) > maxMark {
			return nil, fmt.Errorf("pre-tokenizer Metaspace with a replacement of %d bytes", len(p.Replacement))
		}
		return metaspace(p.Replacement, scheme, p.Cut == nil || *p.Cut), nil
	case "Digits":
		return matching(characters(unicode.IsNumber, p.Individual), isolatedOr(p.Individual), false), nil
	case "Punctuation":
		return hfPunctuation(p)
	case "Whitespace":
		return words, nil
	case "WhitespaceSplit":
		return matching(characters(unicode.IsSpace, false), removed, false), nil
	}
	return nil, fmt.Errorf("pre-tokenizer %.40q is not supported", p.Type)
}

func isolatedOr(individual bool) behaviour {
	if individual {
		return isolated
	}
	return contiguous
}

func hfPunctuation(p *hfPart) (splitter, error) {
	name := p.Behavior
	if name == "" {
		name = "Isolated"
	}
	do, ok := behaviours(name)
	if !ok {
		return nil, fmt.Errorf("split behavior %.40q is not supported", name)
	}
	is := func(r rune) bool {
		return unicode.IsPunct(r) || r < 0x80 && unicode.IsSymbol(r)
	}
	return matching(characters(is, true), do, false), nil
}

// hfSplitPattern cuts by a pattern: with a scanner of its own if there is one and it cuts the whole text into matches.
func hfSplitPattern(p *hfPart) (splitter, error) {
	do, ok := behaviours(p.Behavior)
	if !ok {
		return nil, fmt.Errorf("split behavior %.40q is not supported", p.Behavior)
	}
	switch {
	case p.Pattern != nil && p.Pattern.String != nil:
		return matching(literal(*p.Pattern.String), do, p.Invert), nil
	case p.Pattern == nil || p.Pattern.Regex == nil:
		return nil, errors.New("pre-tokenizer Split without a pattern")
	}
	if sc, ok := knownPattern(*p.Pattern.Regex); ok && (p.Behavior == "Isolated" || p.Behavior == "Removed" && p.Invert) {
		return scan(sc), nil
	}
	find, err := pattern(*p.Pattern.Regex)
	if err != nil {
		return nil, err
	}
	return matching(find, do, p.Invert), nil
}

// hfEnds reads what a post-processor puts before and after a text.
func (b *builder) hfEnds(f *hfFile) error {
	parts, err := flatten(f.PostProcessor, func(p *hfPart) []hfPart { return p.Processors })
	if err != nil {
		return err
	}
	for _, p := range parts {
		switch p.Type {
		case "ByteLevel": // trims offsets, which nobody here asks for
		case "TemplateProcessing":
			to := &b.prefix
			for _, t := range p.Single {
				switch {
				case t.Sequence != nil:
					to = &b.suffix
				case t.SpecialToken != nil:
					*to = append(*to, p.Special[t.SpecialToken.ID].Tokens...)
				}
			}
		default:
			return fmt.Errorf("post-processor %.40q is not supported", p.Type)
		}
	}
	if len(b.prefix)+len(b.suffix) > 16 {
		return errors.New("a post-processor adds more than 16 tokens")
	}
	return nil
}

func (b *builder) hfDecoder(f *hfFile) error {
	parts, err := flatten(f.Decoder, func(p *hfPart) []hfPart { return p.Decoders })
	if err != nil {
		return err
	}
	d := &b.decode
	d.byteLevel = f.Decoder == nil && b.model.byteLevel
	for _, p := range parts {
		switch {
		case p.Type == "ByteLevel":
			d.byteLevel = true
		case p.Type == "ByteFallback":
			d.bytes = true
		case p.Type == "Fuse":
		case p.Type == "Replace" && p.Pattern != nil && p.Pattern.String != nil && *p.Pattern.String != "":
			d.replace = append(d.replace, [2]string{*p.Pattern.String, p.Content})
		case p.Type == "Strip" && p.Content == " " && p.Stop == 0 && p.Start >= 0:
			d.strip = p.Start
		case p.Type == "Metaspace":
			d.replace = append(d.replace, [2]string{p.Replacement, " "})
			if p.Scheme != "never" && (p.AddPrefix == nil || *p.AddPrefix) {
				d.strip = 1
			}
		default:
			return fmt.Errorf("decoder %.40q is not supported", p.Type)
		}
	}
	return nil
}
