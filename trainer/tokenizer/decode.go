package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// Decode turns ids into text. Special tokens are left out, and so are ids that are not in the vocabulary; bytes that
// are not UTF-8 become U+FFFD.
func (t *Tokenizer) Decode(ids []int32) string { return t.decode(ids, false) }

// DecodeAll is Decode with special tokens spelled out.
func (t *Tokenizer) DecodeAll(ids []int32) string { return t.decode(ids, true) }

func (t *Tokenizer) decode(ids []int32, special bool) string {
	d := Decoder{t: t, special: special, strip: t.strip}
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(d.Next(id))
	}
	b.WriteString(d.Flush())
	return b.String()
}

// Decoder turns ids into text one at a time, as generation makes them. Text that ends in the middle of a character
// waits for the rest of it.
type Decoder struct {
	t       *Tokenizer
	special bool
	strip   int    // spaces still to drop
	pending []byte // the begin of a character
}

// Decoder returns a Decoder for text that goes on where other text ended.
func (t *Tokenizer) Decoder() *Decoder { return &Decoder{t: t} }

// Next adds a token and returns the text that is now certain; it may be empty.
func (d *Decoder) Next(id int32) string {
	if id < 0 || int(id) >= len(d.t.tokens) {
		return ""
	}
	tok := &d.t.tokens[id]
	if tok.special && !d.special {
		return ""
	}
	d.pending = append(d.pending, tok.raw...)
	for d.strip > 0 && len(d.pending) > 0 {
		if d.pending[0] != ' ' {
			d.strip = 0
			break
		}
		d.pending = d.pending[1:]
		d.strip--
	}
	n := complete(d.pending)
	out := lossy(d.pending[:n])
	d.pending = append(d.pending[:0], d.pending[n:]...)
	return out
}

// Flush returns what waits: characters whose rest never came.
func (d *Decoder) Flush() string {
	out := lossy(d.pending)
	d.pending = d.pending[:0]
	return out
}

// complete is the length of b without a character that has begun but may still be completed.
func complete(b []byte) int {
	for i := len(b) - 1; i >= 0 && i >= len(b)-utf8.UTFMax+1; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return i
			}
			break
		}
	}
	return len(b)
}

// lossy makes valid UTF-8: each longest begin of a character that has no proper end becomes one U+FFFD, as Unicode
// recommends (chapter 3.9, "maximal subparts") and Rust and Python do.
func lossy(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			n = subpart(b)
		}
		out.WriteRune(r)
		b = b[n:]
	}
	return out.String()
}

// subpart is the length of the longest begin of a character at the start of b, which holds no whole one; at least 1.
func subpart(b []byte) int {
	n := 1
	for n < len(b) && !utf8.FullRune(b[:n+1]) { // FullRune is false only for a proper begin
		n++
	}
	return n
}
