package tokenizer

import "unicode/utf8"

// GPT-2 spells each byte as a printable character: printable Latin-1 characters stand for themselves, the other bytes
// for U+0100 onwards, in order. A space is thus spelled Ġ, a newline Ċ.

// spelledByte is the character that spells b.
func spelledByte(b byte) rune {
	if printable(b) {
		return rune(b)
	}
	n := rune(0)
	for c := range int(b) {
		if !printable(byte(c)) {
			n++
		}
	}
	return 0x100 + n
}

func printable(b byte) bool {
	return b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae
}

// byteSpelling maps characters to the bytes they spell.
type byteSpelling map[rune]byte

func newByteSpelling() byteSpelling {
	m := make(byteSpelling, 256)
	for b := range 256 {
		m[spelledByte(byte(b))] = byte(b)
	}
	return m
}

// bytes returns what a token spells. A token with a character that spells no byte stands for its own characters, as
// added tokens do.
func (m byteSpelling) bytes(spelling string) []byte {
	out := make([]byte, 0, len(spelling))
	for _, r := range spelling {
		b, ok := m[r]
		if !ok {
			return []byte(spelling)
		}
		out = append(out, b)
	}
	return out
}

// spell is the inverse of bytes.
func spell(b []byte) string {
	var out []byte
	for _, c := range b {
		out = utf8.AppendRune(out, spelledByte(c))
	}
	return string(out)
}
