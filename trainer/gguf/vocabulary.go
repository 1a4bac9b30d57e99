package gguf

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/tokenizer"
)

// vocabulary writes the tokenizer. Rows of the model that no token has get placeholders, since llama.cpp counts tokens to
// know the rows.
func (h *header) vocabulary(tok *tokenizer.Tokenizer, c *model.Config) error {
	l, err := tok.List()
	if err != nil {
		return err
	}
	if len(l.Spellings) > c.Vocab {
		return fmt.Errorf("it has %d tokens, the model rows for %d", len(l.Spellings), c.Vocab)
	}
	pre, err := preTokenizer(l)
	if err != nil {
		return err
	}
	h.string("tokenizer.ggml.model", map[bool]string{true: "gpt2", false: "llama"}[l.ByteLevel])
	h.string("tokenizer.ggml.pre", pre)
	h.tokens(l, c.Vocab)
	h.special(l, c)
	if l.Template != "" {
		h.string("tokenizer.chat_template", l.Template)
	}
	return nil
}

// preTokenizer is llama.cpp's word for how text is cut. Tokenizers that are of neither of the two kinds, or that merge in
// a way that the word does not imply, are refused: their ids would differ.
func preTokenizer(l *tokenizer.Listing) (string, error) {
	if !l.ByteLevel {
		return "default", checkPieces(l)
	}
	names := map[string]string{tokenizer.SplitGPT2: "gpt-2", tokenizer.SplitLlama3: "llama-bpe", tokenizer.SplitQwen2: "qwen2",
		tokenizer.SplitDigits: "smollm"}
	switch name := names[l.Splitting]; {
	case name == "":
		return "", errors.New("it cuts text in a way that has no name in GGUF (those of GPT-2, Llama 3, Qwen2 and SmolLM have one)")
	case l.IgnoresMerges && l.Splitting != tokenizer.SplitLlama3:
		return "", errors.New("it takes words that are tokens whole, which GGUF knows of Llama 3's alone")
	case slices.ContainsFunc(l.Merges, func(m [2]string) bool { return strings.Contains(m[0]+m[1], " ") }):
		return "", errors.New("it merges spellings with spaces in them, which GGUF cannot write")
	default:
		return name, nil
	}
}

// checkPieces asks for what makes a SentencePiece vocabulary: a token for each byte, and one for the space.
func checkPieces(l *tokenizer.Listing) error {
	n := 0
	for _, k := range l.Kinds {
		if k == tokenizer.KindByte {
			n++
		}
	}
	if n != 256 || !slices.Contains(l.Spellings, spaceMark) {
		return errors.New("it is neither byte-level nor SentencePiece's with a token for each byte")
	}
	return nil
}

// spaceMark is how SentencePiece writes a space.
const spaceMark = "\u2581"

// Types of tokens in ggml.
const (
	tokenNormal  = 1
	tokenUnknown = 2
	tokenControl = 3
	tokenUser    = 4
	tokenUnused  = 5
	tokenByte    = 6
)

func tokenType(k tokenizer.TokenKind) int32 {
	switch k {
	case tokenizer.KindNormal:
		return tokenNormal
	case tokenizer.KindUnknown:
		return tokenUnknown
	case tokenizer.KindControl:
		return tokenControl
	case tokenizer.KindUser:
		return tokenUser
	case tokenizer.KindByte:
		return tokenByte
	}
	return tokenUnused
}

// tokens writes spellings, types, and merges or scores. SentencePiece merges what scores highest: the rank, negated, says
// the same as the scores of the file that the ranks came from. What no merge makes comes after all that one does.
func (h *header) tokens(l *tokenizer.Listing, rows int) {
	spellings, types, scores := make([]string, rows), make([]int32, rows), make([]float32, rows)
	lowest := int32(0)
	for _, r := range l.Ranks {
		lowest = max(lowest, r)
	}
	for id := range rows {
		if id >= len(l.Spellings) || l.Kinds[id] == tokenizer.KindNone {
			spellings[id], types[id], scores[id] = fmt.Sprintf("[PAD%d]", id), tokenUnused, -float32(lowest)-2
			continue
		}
		spellings[id], types[id] = spelling(l, id), tokenType(l.Kinds[id])
		switch {
		case l.Ranks[id] >= 0:
			scores[id] = -float32(l.Ranks[id])
		case l.Kinds[id] == tokenizer.KindNormal, l.Kinds[id] == tokenizer.KindUser:
			scores[id] = -float32(lowest) - 1
		}
	}
	h.strings("tokenizer.ggml.tokens", spellings)
	if !l.ByteLevel {
		h.float32s("tokenizer.ggml.scores", scores)
	}
	h.int32s("tokenizer.ggml.token_type", types)
	if l.ByteLevel {
		merges := make([]string, len(l.Merges))
		for i, m := range l.Merges {
			merges[i] = m[0] + " " + m[1]
		}
		h.strings("tokenizer.ggml.merges", merges)
	}
}

// spelling is how GGUF writes a token: those that are looked for in a text are text, with plain spaces.
func spelling(l *tokenizer.Listing, id int) string {
	if l.Kinds[id] == tokenizer.KindUser {
		return strings.ReplaceAll(l.Spellings[id], spaceMark, " ")
	}
	return l.Spellings[id]
}

// special writes the tokens that have a part to play.
func (h *header) special(l *tokenizer.Listing, c *model.Config) {
	eos := l.EOS
	if eos < 0 && len(c.EOS) > 0 {
		eos = int32(c.EOS[0])
	}
	for _, s := range []struct {
		key string
		id  int32
	}{{"bos", l.BOS}, {"eos", eos}, {"unknown", l.Unknown}, {"padding", l.Pad}} {
		if s.id >= 0 {
			h.uint32("tokenizer.ggml."+s.key+"_token_id", int(s.id))
		}
	}
	h.bool("tokenizer.ggml.add_bos_token", l.AddBOS)
	h.bool("tokenizer.ggml.add_eos_token", l.AddEOS)
	h.bool("tokenizer.ggml.add_space_prefix", l.SpaceBefore)
}
