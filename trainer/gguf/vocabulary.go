package gguf

import (
	"fmt"
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

// preTokenizer is llama.cpp's word for how text is cut.
func preTokenizer(l *tokenizer.Listing) (string, error) {
	if !l.ByteLevel {
		return "default", nil
	}
	names := map[string]string{tokenizer.SplitGPT2: "gpt-2", tokenizer.SplitLlama3: "llama-bpe", tokenizer.SplitQwen2: "qwen2",
		tokenizer.SplitDigits: "smollm"}
	name := names[l.Splitting]
	if name == "" {
		return "", fmt.Errorf("it cuts text in a way that has no name in GGUF (those of GPT-2, Llama 3, Qwen2 and SmolLM have one)")
	}
	return name, nil
}

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
		return strings.ReplaceAll(l.Spellings[id], "\u2581", " ")
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
