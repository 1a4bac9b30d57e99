package tokenizer

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// TokenKind says what a token is for.
type TokenKind int

const (
	KindNone    TokenKind = iota // no token has this id
	KindNormal                   // made by merging
	KindUnknown                  // stands for what has no token
	KindControl                  // special: never found in a text
	KindUser                     // added: found in a text before anything else
	KindByte                     // a byte that no other token writes
)

// Listing is a tokenizer written out, for formats that keep it in tables.
type Listing struct {
	ByteLevel bool        // spellings write bytes as GPT-2 does; else characters, spaces as U+2581, as SentencePiece does
	Spellings []string    // by id
	Kinds     []TokenKind // by id
	Ranks     []int32     // by id: the lowest rank of the merges that make the token, -1: none does
	Merges    [][2]string // ByteLevel alone: in order of rank

	Splitting     string // ByteLevel alone: how text is cut into words, as SplitGPT2; empty: in a way that has no name
	BOS, EOS      int32  // -1: none
	Unknown, Pad  int32
	AddBOS        bool // texts begin with BOS
	AddEOS        bool // and end with EOS
	SpaceBefore   bool // a text is written as if a space stood before it
	Template      string
	IgnoresMerges bool // a word that is a token is taken whole
}

// Names of ways to cut text into words.
const (
	SplitGPT2   = "gpt2"
	SplitLlama3 = "llama3"
	SplitQwen2  = "qwen2"
	SplitDigits = "gpt2, digits alone" // SmolLM's
)

// List writes the tokenizer out. One whose ranks belong to tokens, not to merges, cannot be: tiktoken's.
func (t *Tokenizer) List() (*Listing, error) {
	n := len(t.tokens)
	l := &Listing{ByteLevel: t.bpe.byteLevel, Spellings: make([]string, n), Kinds: make([]TokenKind, n), Ranks: make([]int32, n),
		BOS: t.bos, EOS: t.eos, Unknown: t.bpe.unk, Pad: -1, Template: t.template, IgnoresMerges: t.bpe.ignoreMerges,
		AddBOS: t.bos >= 0 && slices.Contains(t.prefix, t.bos), AddEOS: t.eos >= 0 && slices.Contains(t.suffix, t.eos)}
	added := map[int32]bool{}
	for _, a := range append(slices.Clone(t.raw.tokens), t.norm.tokens...) {
		added[a.ID] = true
	}
	for id, tok := range t.tokens {
		l.Spellings[id], l.Kinds[id], l.Ranks[id] = tok.spelling, t.kind(int32(id), added[int32(id)]), -1
	}
	if t.chat != nil {
		l.Pad = t.padding()
	}
	if err := t.listMerges(l); err != nil {
		return nil, err
	}
	if ids, err := t.Encode("a"); err == nil && len(ids) > 0 {
		l.SpaceBefore = strings.HasPrefix(t.Spelling(ids[0]), spaceMark) || t.Spelling(ids[0]) == "Ġa"
	}
	if l.ByteLevel {
		l.Splitting = t.splitting()
	}
	return l, nil
}

// padding is the token that fills up, -1: none.
func (t *Tokenizer) padding() int32 {
	name, ok := t.chat.names["pad_token"].(string)
	if id, there := t.ids[name]; ok && there {
		return id
	}
	return -1
}

func (t *Tokenizer) kind(id int32, added bool) TokenKind {
	tok := t.tokens[id]
	switch {
	case tok.raw == nil:
		return KindNone
	case id == t.bpe.unk:
		return KindUnknown
	case tok.special:
		return KindControl
	case added:
		return KindUser
	}
	if c, ok := byteToken(tok.spelling); ok && !t.bpe.byteLevel && t.bpe.bytes[c] == id {
		return KindByte
	}
	return KindNormal
}

// listMerges fills in ranks, and merges where each has a rank of its own.
func (t *Tokenizer) listMerges(l *Listing) error {
	pairs := slices.SortedFunc(maps.Keys(t.bpe.merges), func(a, b uint64) int {
		return cmp.Or(cmp.Compare(t.bpe.merges[a].rank, t.bpe.merges[b].rank), cmp.Compare(a, b))
	})
	last := int32(-1)
	for _, p := range pairs {
		m := t.bpe.merges[p]
		if l.Ranks[m.id] < 0 {
			l.Ranks[m.id] = m.rank
		}
		if !l.ByteLevel {
			continue
		}
		if m.rank == last {
			return errors.New("this tokenizer ranks tokens, not merges; convert it to tokenizer.json")
		}
		last = m.rank
		l.Merges = append(l.Merges, [2]string{t.tokens[p>>32].spelling, t.tokens[uint32(p)].spelling})
	}
	return nil
}

// probe is a text that the ways to cut known here cut differently.
const probe = "I'll WE'RE don'T 1234567 x86\r\n\n  \n (foo)bar\t-- été  ' 12 'S\n?!\n\n \u00bd4 a1b22 \u4f60\u597d\u3000,;  "

// splitting recognises the way in which text is cut by what it does, since files spell one pattern in several ways.
func (t *Tokenizer) splitting() string {
	llama3, _ := knownPattern(patternLlama3)
	qwen2, _ := knownPattern(patternQwen2)
	got, err := cuts(t.split)
	if err != nil {
		return ""
	}
	for _, way := range []struct {
		name string
		cut  splitter
	}{
		{SplitGPT2, scan(scanGPT2)}, {SplitLlama3, scan(llama3)}, {SplitQwen2, scan(qwen2)},
		{SplitDigits, then(matching(characters(unicode.IsNumber, true), isolated, false), scan(scanGPT2))},
	} {
		if want, _ := cuts(way.cut); slices.Equal(got, want) {
			return way.name
		}
	}
	return ""
}

// cuts are the words of the probe; where it stands in a text makes no difference to the ways that are known.
func cuts(s splitter) (words []string, err error) {
	err = s(probe, middle, func(w string) error {
		words = append(words, w)
		return nil
	})
	return words, err
}
