package tokenizer

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// spFixture is a small model with bytes, in SentencePiece's terms.
func spFixture() *spModel {
	m := &spModel{modelType: 2, byteFallback: true, unk: 0, bos: 1, eos: 2, dummyPrefix: true, escape: true}
	add := func(text string, typ pieceType, score float32) {
		m.pieces = append(m.pieces, spPiece{text, score, typ})
	}
	add("<unk>", pieceUnknown, 0)
	add("<s>", pieceControl, 0)
	add("</s>", pieceControl, 0)
	for b := range 256 {
		add(fmt.Sprintf("<0x%02X>", b), pieceByte, 0)
	}
	for i, s := range strings.Fields("▁t he ▁the ▁▁ ca at cat ▁cat ▁ t h e c a s") {
		add(s, pieceNormal, -float32(i))
	}
	add("[X]", pieceUser, 0)
	return m
}

func field(out []byte, num, wire int) []byte { return binary.AppendUvarint(out, uint64(num<<3|wire)) }

func blob(out []byte, num int, b []byte) []byte {
	out = binary.AppendUvarint(field(out, num, 2), uint64(len(b)))
	return append(out, b...)
}

func number(out []byte, num int, v uint64) []byte { return binary.AppendUvarint(field(out, num, 0), v) }

func flag(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

// spFile writes m as a tokenizer.model.
func spFile(m *spModel) []byte {
	var out []byte
	for _, p := range m.pieces {
		b := blob(nil, 1, []byte(p.text))
		b = binary.LittleEndian.AppendUint32(field(b, 2, 5), math.Float32bits(p.score))
		out = blob(out, 1, number(b, 3, uint64(p.typ)))
	}
	trainer := number(number(nil, 3, m.modelType), 35, flag(m.byteFallback))
	trainer = number(number(number(trainer, 40, uint64(m.unk)), 41, uint64(m.bos)), 42, uint64(m.eos))
	rules := number(number(number(nil, 3, flag(m.dummyPrefix)), 4, flag(m.removeExtra)), 5, flag(m.escape))
	if len(m.charsMap) > 0 {
		rules = blob(rules, 2, m.charsMap)
	}
	return blob(blob(out, 2, trainer), 3, rules)
}

func spTokenizer(t testing.TB, m *spModel) *Tokenizer {
	t.Helper()
	b, err := fromModel(nil, spFile(m), &config{})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := b.finish(&config{})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func spellings(t *testing.T, tok *Tokenizer, ids []int32, err error) string {
	t.Helper()
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, id := range ids {
		out = append(out, tok.Spelling(id))
	}
	return strings.Join(out, " ")
}

func TestSentencePiece(t *testing.T) {
	tok := spTokenizer(t, spFixture())
	for text, want := range map[string]string{
		"the cat":    "▁the ▁cat",
		"the  cat":   "▁the ▁▁ cat",
		"":           "",
		"té":         "▁t <0xC3> <0xA9>",
		"<s>":        "▁ <0x3C> s <0x3E>",
		"the[X]the":  "▁the [X] ▁the",
		"the\ncat":   "▁the <0x0A> cat",
		"▁the":       "▁ ▁the",
		"catcat the": "▁cat cat ▁the",
	} {
		ids, err := tok.Encode(text)
		if got := spellings(t, tok, ids, err); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	ids, err := tok.Prompt("the")
	if got := spellings(t, tok, ids, err); got != "<s> ▁the" {
		t.Errorf("Prompt: %s", got)
	}
	ids, err = tok.Prompt("<s>the")
	if got := spellings(t, tok, ids, err); got != "<s> ▁the" {
		t.Errorf("Prompt with BOS: %s", got)
	}
	ids, err = tok.Continue("cat the")
	if got := spellings(t, tok, ids, err); got != "cat ▁the" {
		t.Errorf("Continue: %s", got)
	}
	if got := tok.Decode([]int32{1, 261, 266, 2, 9999, -1}); got != "the cat" {
		t.Errorf("Decode: %q", got)
	}
	if _, s, ok := tok.EOS(); !ok || s != "</s>" {
		t.Errorf("EOS: %q", s)
	}
}

func TestSentencePieceRefuses(t *testing.T) {
	for want, change := range map[string]func(*spModel){
		"type 1":              func(m *spModel) { m.modelType = 1 },
		"normalization rules": func(m *spModel) { m.charsMap = []byte("x") },
		"0 pieces":            func(m *spModel) { m.pieces = nil },
		"is not text":         func(m *spModel) { m.pieces[300-41].text = "\xff" },
		"stands there twice":  func(m *spModel) { m.pieces[4].text = "<0x00>" },
		"not a number":        func(m *spModel) { m.pieces[4].score = float32(math.NaN()) },
		"has 2000 bytes":      func(m *spModel) { m.pieces[260].text = strings.Repeat("x", 2000) },
	} {
		m := spFixture()
		change(m)
		data := spFile(m)
		if len(m.pieces) == 0 { // still a protocol buffer
			data = append([]byte{0x0a, 0}, data...)
			want = "piece 0 is not text"
		}
		if _, err := fromModel(nil, data, &config{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func FuzzSentencePiece(f *testing.F) {
	good := spFile(spFixture())
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Add([]byte("IQ== 0\nIg== 1\nIyM= 2\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := fromModel(nil, data, &config{})
		if err != nil {
			return
		}
		tok, err := b.finish(&config{})
		if err != nil {
			return
		}
		use(t, tok)
	})
}

// use encodes and decodes with a tokenizer that a fuzzer made.
func use(t *testing.T, tok *Tokenizer) {
	t.Helper()
	if l, err := tok.List(); err == nil && (len(l.Spellings) != tok.Size() || len(l.Kinds) != tok.Size() || len(l.Ranks) != tok.Size()) {
		t.Fatalf("%d tokens listed of %d", len(l.Spellings), tok.Size())
	}
	for _, text := range []string{"", "the cat\n 12", "é漢🙂 <s>", strings.Repeat("ab", 200)} {
		ids, err := tok.Full(text)
		if err != nil {
			continue // a pattern may be too slow
		}
		if slices.ContainsFunc(ids, func(id int32) bool { return int(id) >= tok.Size() || id < 0 }) {
			t.Fatalf("ids %v of %d", ids, tok.Size())
		}
		_ = tok.DecodeAll(ids)
	}
}
