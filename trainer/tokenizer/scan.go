package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// scanner cuts the first word off a text that is not empty and returns its length in bytes. The scanners below do what
// the patterns beside them say, branch by branch, without a regular expression.
type scanner func(s string) int

// knownPattern finds the scanner for a splitting pattern as tokenizer files spell it.
func knownPattern(p string) (scanner, bool) {
	switch p {
	case patternGPT2:
		return scanGPT2, true
	case patternLlama3, patternCL100K:
		return func(s string) int { return scanModern(s, 3) }, true
	case patternQwen2:
		return func(s string) int { return scanModern(s, 1) }, true
	}
	return nil, false
}

const (
	patternGPT2   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	patternLlama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternCL100K = `'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s`
	patternQwen2  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

func isNewline(r rune) bool { return r == '\n' || r == '\r' }

// isOther is [^\s\p{L}\p{N}].
func isOther(r rune) bool { return !unicode.IsSpace(r) && !unicode.IsLetter(r) && !unicode.IsNumber(r) }

// run is the length of the longest prefix of s whose characters satisfy is.
func run(s string, is func(rune) bool) int {
	for i, r := range s {
		if !is(r) {
			return i
		}
	}
	return len(s)
}

// scanGPT2 is patternGPT2.
func scanGPT2(s string) int {
	if n := contraction(s, false); n > 0 {
		return n
	}
	space := 0
	if s[0] == ' ' {
		space = 1
	}
	for _, is := range []func(rune) bool{unicode.IsLetter, unicode.IsNumber, isOther} {
		if n := run(s[space:], is); n > 0 {
			return space + n
		}
	}
	return spaces(s)
}

// scanModern is patternLlama3 and patternQwen2; they differ in how many digits go together.
func scanModern(s string, digits int) int {
	if n := contraction(s, true); n > 0 {
		return n
	}
	r, size := utf8.DecodeRuneInString(s)
	switch { // [^\r\n\p{L}\p{N}]?\p{L}+
	case unicode.IsLetter(r):
		return run(s, unicode.IsLetter)
	case !isNewline(r) && !unicode.IsNumber(r):
		if n := run(s[size:], unicode.IsLetter); n > 0 {
			return size + n
		}
	}
	if unicode.IsNumber(r) { // \p{N}{1,3}
		return firstRunes(s, run(s, unicode.IsNumber), digits)
	}
	space := 0
	if r == ' ' {
		space = 1
	}
	if n := run(s[space:], isOther); n > 0 { //  ?[^\s\p{L}\p{N}]+[\r\n]*
		n += space
		return n + run(s[n:], isNewline)
	}
	if n := lastNewline(s); n > 0 { // \s*[\r\n]+
		return n
	}
	return spaces(s)
}

// firstRunes is the length of the first n characters of s[:limit].
func firstRunes(s string, limit, n int) int {
	for i := range s[:limit] {
		if n == 0 {
			return i
		}
		n--
	}
	return limit
}

// lastNewline is the length of the white space s begins with, up to its last newline; 0: none is in it.
func lastNewline(s string) int {
	end := 0
	for i, r := range s {
		if !unicode.IsSpace(r) {
			break
		}
		if isNewline(r) {
			end = i + 1
		}
	}
	return end
}

// spaces is \s+(?!\S)|\s+: white space without its last character if something follows that is none.
func spaces(s string) int {
	n := run(s, unicode.IsSpace)
	if n == len(s) {
		return n
	}
	_, last := utf8.DecodeLastRuneInString(s[:n])
	if n > last {
		return n - last
	}
	return n
}

// contraction is 's|'t|'re|'ve|'m|'ll|'d. Where case is ignored, the long s (U+017F) is an s, as Unicode folds it.
func contraction(s string, anyCase bool) int {
	if len(s) < 2 || s[0] != '\'' {
		return 0
	}
	if anyCase && len(s) >= 3 && s[1:3] == "\u017f" {
		return 3
	}
	at := func(i int) byte {
		if i >= len(s) {
			return 0
		}
		if c := s[i]; !anyCase || c < 'A' || c > 'Z' {
			return c
		}
		return s[i] + 'a' - 'A'
	}
	switch a, b := at(1), at(2); {
	case a == 's', a == 't', a == 'm', a == 'd':
		return 2
	case a == 'r' && b == 'e', a == 'v' && b == 'e', a == 'l' && b == 'l':
		return 3
	}
	return 0
}
