package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// builder collects what a tokenizer is made of, whatever file it comes from.
type builder struct {
	ids       map[string]int32 // spelling → id, of the model's own vocabulary
	spellings []string         // by id
	has       []bool           // by id
	added     []added
	normalize normalizer
	split     splitter
	model     *bpe
	decode    decoding
	prefix    []string // spellings that a text begins with
	suffix    []string
	bos, eos  int32 // as the vocabulary file says; -1: it does not
	bySpace   bool  // no splitter: cut at the space mark if no merge crosses it
}

// decoding says how spellings become text.
type decoding struct {
	replace   [][2]string
	bytes     bool // <0x0A> is a byte
	byteLevel bool
	strip     int // spaces dropped at the start of a text
}

// spaceMark is how SentencePiece writes a space.
const spaceMark = "\u2581"

func newBuilder() *builder {
	b := &builder{ids: map[string]int32{}, split: whole, bos: -1, eos: -1}
	b.model = &bpe{text: map[string]int32{}, merges: map[uint64]merge{}, unk: -1}
	for i := range b.model.bytes {
		b.model.bytes[i] = -1
	}
	return b
}

func nfc() normStep { return form(norm.NFC) }

func readVocabJSON(data []byte) (map[string]int32, error) {
	var vocab map[string]int32
	if err := json.Unmarshal(data, &vocab); err != nil {
		return nil, fmt.Errorf("vocabulary: %w", err)
	}
	return vocab, nil
}

// set gives id its spelling. Two spellings of one id are refused: which one decodes would be chance.
func (b *builder) set(spelling string, id int32) error {
	if id < 0 || id >= maxVocab {
		return fmt.Errorf("token %.40q has id %d; ids are 0 to %d", spelling, id, maxVocab-1)
	}
	for int(id) >= len(b.spellings) {
		b.spellings, b.has = append(b.spellings, ""), append(b.has, false)
	}
	if b.has[id] && b.spellings[id] != spelling {
		return fmt.Errorf("id %d is both %.40q and %.40q", id, b.spellings[id], spelling)
	}
	b.spellings[id], b.has[id] = spelling, true
	b.ids[spelling] = id
	return nil
}

// vocabulary takes over the model's own tokens. byteLevel has to be known before.
func (b *builder) vocabulary(vocab map[string]int32) error {
	bytesOf := newByteSpelling()
	for _, spelling := range slices.Sorted(maps.Keys(vocab)) {
		id := vocab[spelling]
		if err := b.set(spelling, id); err != nil {
			return err
		}
		text := []byte(spelling)
		if b.model.byteLevel {
			text = bytesOf.bytes(spelling)
		}
		b.token(text, id)
	}
	return nil
}

// token registers what a token of the model stands for.
func (b *builder) token(text []byte, id int32) {
	b.model.text[string(text)] = id
	if b.model.byteLevel && len(text) == 1 {
		b.model.bytes[text[0]] = id
	}
	if c, ok := byteToken(string(text)); ok && !b.model.byteLevel {
		b.model.bytes[c] = id
	}
}

// byteToken reads the spelling of a byte, <0x0A>.
func byteToken(s string) (byte, bool) {
	if len(s) != 6 || !strings.HasPrefix(s, "<0x") || s[5] != '>' {
		return 0, false
	}
	v, err := strconv.ParseUint(s[3:5], 16, 8)
	return byte(v), err == nil
}

// mergeRule is two spellings that merge; the first rule has the lowest rank.
type mergeRule struct {
	left, right string
}

func (b *builder) mergeRules(rules []mergeRule) error {
	for rank, r := range rules {
		left, ok1 := b.ids[r.left]
		right, ok2 := b.ids[r.right]
		id, ok3 := b.ids[r.left+r.right]
		if !ok1 || !ok2 || !ok3 {
			return fmt.Errorf("merge %d (%.40q, %.40q) is not of tokens in the vocabulary", rank, r.left, r.right)
		}
		b.model.addMerge(left, right, id, int32(rank))
	}
	return nil
}

// finish checks that everything fits together and makes the tokenizer.
func (b *builder) finish(c *config) (*Tokenizer, error) {
	if err := b.addConfigured(c); err != nil {
		return nil, err
	}
	if len(b.spellings) == 0 {
		return nil, errors.New("the vocabulary is empty")
	}
	t := &Tokenizer{
		ids: b.ids, normalize: b.normalize, split: b.split, bpe: b.model,
		strip: b.decode.strip, bos: b.bos, eos: b.eos,
	}
	if b.bySpace && b.spacesStandFirst() {
		t.split = atMark(spaceMark, true)
	}
	if err := b.matchers(t); err != nil {
		return nil, err
	}
	if err := b.spell(t); err != nil {
		return nil, err
	}
	return t, b.ends(t, c)
}

// addConfigured adds the tokens that tokenizer_config.json lists, and marks those as special that it names.
func (b *builder) addConfigured(c *config) error {
	have := map[string]bool{}
	for _, a := range b.added {
		have[a.Content] = true
	}
	for _, key := range slices.Sorted(maps.Keys(c.Added)) {
		a := c.Added[key]
		id, err := strconv.ParseInt(key, 10, 32)
		if err != nil {
			return fmt.Errorf("tokenizer_config.json: added_tokens_decoder has a key %.40q that is not an id", key)
		}
		if a.ID = int32(id); !have[a.Content] {
			b.added = append(b.added, a)
			have[a.Content] = true
		}
	}
	for _, n := range []*tokenName{c.BOS, c.EOS, c.UNK, c.PAD} {
		if n == nil {
			continue
		}
		if id, ok := b.ids[string(*n)]; ok && !have[string(*n)] {
			b.added = append(b.added, added{ID: id, Content: string(*n), Special: true})
			have[string(*n)] = true
		}
	}
	for _, a := range b.added {
		if err := b.set(a.Content, a.ID); err != nil {
			return err
		}
	}
	return nil
}

// spacesStandFirst says that no merge makes a token in which the space mark follows something else. Then a text can be
// cut before its spaces: no token would have crossed the cut.
func (b *builder) spacesStandFirst() bool {
	if _, ok := b.ids[spaceMark]; !ok {
		return false
	}
	for _, m := range b.model.merges {
		if strings.Contains(strings.TrimLeft(b.spellings[m.id], spaceMark), spaceMark) {
			return false
		}
	}
	return true
}

func (b *builder) matchers(t *Tokenizer) error {
	var raw, rawPlain, normal, normalPlain []added
	for _, a := range b.added {
		if !a.Normalized {
			raw = append(raw, a)
			if !a.Special {
				rawPlain = append(rawPlain, a)
			}
			continue
		}
		content, err := b.normalize.apply(a.Content, begin)
		if err != nil {
			return err
		}
		if a.Content = content; content == "" {
			continue
		}
		normal = append(normal, a)
		if !a.Special {
			normalPlain = append(normalPlain, a)
		}
	}
	for _, m := range []struct {
		to   **matcher
		list []added
	}{{&t.raw, raw}, {&t.rawPlain, rawPlain}, {&t.norm, normal}, {&t.normPlain, normalPlain}} {
		made, err := newMatcher(m.list)
		if err != nil {
			return err
		}
		*m.to = made
	}
	return nil
}

// spell fills in what each id decodes to.
func (b *builder) spell(t *Tokenizer) error {
	bytesOf := newByteSpelling()
	t.tokens = make([]token, len(b.spellings))
	total := 0
	for id, s := range b.spellings {
		if !b.has[id] {
			continue
		}
		raw, err := b.decode.text(s, bytesOf)
		if total += len(raw); err != nil || total > maxNormal {
			return fmt.Errorf("token %d: the decoder makes too much text of it", id)
		}
		t.tokens[id] = token{spelling: s, raw: raw}
	}
	for _, a := range b.added {
		t.tokens[a.ID] = token{spelling: a.Content, raw: []byte(a.Content), special: a.Special}
	}
	return nil
}

func (d decoding) text(s string, bytesOf byteSpelling) ([]byte, error) {
	if d.byteLevel {
		return bytesOf.bytes(s), nil
	}
	if c, ok := byteToken(s); ok && d.bytes {
		return []byte{c}, nil
	}
	for _, r := range d.replace {
		var err error
		if s, err = replaceAll(s, r[0], r[1], maxNormal); err != nil {
			return nil, err
		}
	}
	return []byte(s), nil
}

// ends decides what a text begins and ends with: what the vocabulary file says, unless the config says it expressly.
func (b *builder) ends(t *Tokenizer, c *config) error {
	name := func(n *tokenName, id *int32) {
		if n != nil {
			if v, ok := b.ids[string(*n)]; ok {
				*id = v
			}
		}
	}
	name(c.BOS, &t.bos)
	name(c.EOS, &t.eos)
	for _, side := range []struct {
		spellings []string
		ids       *[]int32
	}{{b.prefix, &t.prefix}, {b.suffix, &t.suffix}} {
		for _, s := range side.spellings {
			id, ok := b.ids[s]
			if !ok {
				return fmt.Errorf("texts begin or end with %.40q, which is not a token", s)
			}
			*side.ids = append(*side.ids, id)
		}
	}
	t.prefix = configured(t.prefix, t.bos, c.AddBOS)
	t.suffix = configured(t.suffix, t.eos, c.AddEOS)
	return nil
}

// configured adds id to the ends of a text, or removes it, as the config says.
func configured(ids []int32, id int32, add *bool) []int32 {
	if add == nil || id < 0 || *add == slices.Contains(ids, id) {
		return ids
	}
	if *add {
		return append(ids, id)
	}
	return slices.DeleteFunc(ids, func(v int32) bool { return v == id })
}
