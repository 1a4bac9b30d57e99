// Package tokenizer turns text into token ids and back, exactly as the models it serves were trained: byte-level BPE
// (GPT-2, Llama 3, Qwen2 and everything described by a tokenizer.json of that kind), SentencePiece-style BPE with byte
// fallback (Llama 2, Mistral) from tokenizer.json or tokenizer.model, and tiktoken rank files. Chat templates stand
// beside it (Chat).
//
// Words: a token is a row of the model's embedding and has an id; its spelling is how its file writes it. Added tokens
// are found in the text before anything else; special ones (<s>, <|im_end|>) only where the caller asks for them, since
// text that merely looks like one must not steer a model. A word is what the splitting pattern cuts off; BPE merges
// inside words only.
//
// Everything a tokenizer is made of comes from files of strangers: sizes, ids and patterns are bounded, what is not
// supported is refused by name, and no input takes more than O(n log n) (a pattern that has no scanner of its own runs
// under a time limit). A Tokenizer is immutable and safe for concurrent use.
package tokenizer

import (
	"fmt"
	"strings"
)

const (
	// MaxText bounds the bytes of one text to encode.
	MaxText = 16 << 20
	// maxVocab bounds ids: the largest vocabularies in use have 262,144 tokens.
	maxVocab = 1 << 21
)

// Tokenizer encodes and decodes. Load makes one.
type Tokenizer struct {
	ids    map[string]int32 // spelling → id, added tokens too
	tokens []token          // by id; raw nil: no such token

	raw, rawPlain   *matcher // added tokens found in the text as it is: all; those that are not special
	norm, normPlain *matcher // added tokens found in normalized text: all; those that are not special
	normalize       normalizer
	split           splitter
	bpe             *bpe

	strip    int // spaces that decoding drops at the start of a text
	prefix   []int32
	suffix   []int32
	bos, eos int32 // -1: none
	chat     *chat
	template string // the model's own chat template, as its file has it
}

type token struct {
	spelling string
	raw      []byte // what it decodes to
	special  bool
}

// Size is one more than the largest id.
func (t *Tokenizer) Size() int { return len(t.tokens) }

// ID finds a token by its spelling.
func (t *Tokenizer) ID(spelling string) (int32, bool) {
	id, ok := t.ids[spelling]
	return id, ok
}

// Spelling is how the tokenizer's file writes a token; empty for an id that is not in the vocabulary.
func (t *Tokenizer) Spelling(id int32) string {
	if id < 0 || int(id) >= len(t.tokens) {
		return ""
	}
	return t.tokens[id].spelling
}

// BOS is the token that begins a text.
func (t *Tokenizer) BOS() (id int32, spelling string, ok bool) { return t.named(t.bos) }

// EOS is the token that ends a text.
func (t *Tokenizer) EOS() (id int32, spelling string, ok bool) { return t.named(t.eos) }

func (t *Tokenizer) named(id int32) (int32, string, bool) {
	if id < 0 {
		return 0, "", false
	}
	return id, t.tokens[id].spelling, true
}

// Encode encodes text alone, nothing put before or after it; what looks like a special token is text.
func (t *Tokenizer) Encode(text string) ([]int32, error) {
	return t.encode(text, false, begin)
}

// EncodeSpecial is Encode, except that the spellings of special tokens become these tokens.
func (t *Tokenizer) EncodeSpecial(text string) ([]int32, error) {
	return t.encode(text, true, begin)
}

// Prompt encodes the start of a text, special tokens parsed, after what the tokenizer's config puts before every text
// (BOS, for most). If the text brings these tokens itself they are not doubled.
func (t *Tokenizer) Prompt(text string) ([]int32, error) {
	ids, err := t.encode(text, true, begin)
	if err != nil || hasPrefix(ids, t.prefix) {
		return ids, err
	}
	return append(append([]int32(nil), t.prefix...), ids...), nil
}

// Full is Prompt with what the config puts after every text (mostly nothing).
func (t *Tokenizer) Full(text string) ([]int32, error) {
	ids, err := t.Prompt(text)
	return append(ids, t.suffix...), err
}

// Continue encodes text that goes on where other text ended, special tokens parsed: no space is put before it.
func (t *Tokenizer) Continue(text string) ([]int32, error) {
	return t.encode(text, true, middle)
}

func hasPrefix(ids, prefix []int32) bool {
	if len(prefix) == 0 || len(ids) < len(prefix) {
		return len(prefix) == 0
	}
	for i, id := range prefix {
		if ids[i] != id {
			return false
		}
	}
	return true
}

func (t *Tokenizer) encode(text string, special bool, at place) ([]int32, error) {
	e := encoder{t: t, ids: make([]int32, 0, len(text)/4+4), at: at}
	err := e.text(text, special)
	return e.ids, err
}

// encoder collects the ids of a text.
type encoder struct {
	t   *Tokenizer
	ids []int32
	at  place // of the next piece

	normal int // bytes that normalizing has made
}

// text cuts added tokens out of the text, normalizes what lies between, cuts those added tokens out that are looked for
// in normalized text, splits the rest into words and merges each.
func (e *encoder) text(text string, special bool) error {
	if len(text) > MaxText {
		return fmt.Errorf("text of %d bytes; encode at most %d at once", len(text), MaxText)
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	raw, norm := e.t.rawPlain, e.t.normPlain
	if special {
		raw, norm = e.t.raw, e.t.norm
	}
	return raw.cut(text, func(piece string, id int32) error {
		if id >= 0 {
			return e.added(id)
		}
		piece, err := e.t.normalize.apply(piece, e.at)
		if err != nil {
			return err
		}
		if e.normal += len(piece); e.normal > maxNormal {
			return errGrows
		}
		return norm.cut(piece, e.piece)
	})
}

func (e *encoder) added(id int32) error {
	e.ids, e.at = append(e.ids, id), after
	return nil
}

func (e *encoder) piece(piece string, id int32) error {
	if id >= 0 {
		return e.added(id)
	}
	at := e.at
	e.at = middle
	return e.t.split(piece, at, func(w string) error {
		e.ids = e.t.bpe.word(e.ids, w)
		return nil
	})
}
