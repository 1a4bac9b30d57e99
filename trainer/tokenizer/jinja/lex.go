package jinja

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

type tokKind int

const (
	tokEOF      tokKind = iota
	tokText             // between tags
	tokVar              // {{
	tokVarEnd           // }}
	tokBlock            // {%
	tokBlockEnd         // %}
	tokName
	tokString
	tokInt
	tokFloat
	tokOp
)

type tok struct {
	kind tokKind
	text string // a string's value, an operator's spelling
	line int
}

// lexer cuts a template into text and the tokens inside of tags, and removes the white space around tags that trim_blocks,
// lstrip_blocks and the signs - and + say.
type lexer struct {
	s         string
	pos, line int
	toks      []tok
	lineStart bool // the text at pos begins a line
	stripNext bool // a tag ended with -: the white space that follows goes
}

func lex(source string) ([]tok, error) {
	source = strings.ReplaceAll(source, "\r\n", "\n")
	source = strings.ReplaceAll(source, "\r", "\n")
	l := &lexer{s: strings.TrimSuffix(source, "\n"), line: 1, lineStart: true}
	for l.pos < len(l.s) {
		if err := l.textAndTag(); err != nil {
			return nil, err
		}
	}
	l.add(tokEOF, "")
	return l.toks, nil
}

func (l *lexer) add(k tokKind, text string) { l.toks = append(l.toks, tok{k, text, l.line}) }

func (l *lexer) errorf(format string, args ...any) error {
	return &lineError{l.line, fmt.Errorf(format, args...)}
}

// advance moves over n bytes and counts lines.
func (l *lexer) advance(n int) {
	l.line += strings.Count(l.s[l.pos:l.pos+n], "\n")
	l.pos += n
}

// textAndTag reads the text up to the next tag, and the tag.
func (l *lexer) textAndTag() error {
	n, open := len(l.s)-l.pos, ""
	for i := l.pos; i+1 < len(l.s); i++ {
		if l.s[i] == '{' && strings.IndexByte("{%#", l.s[i+1]) >= 0 {
			n, open = i-l.pos, l.s[i:i+2]
			break
		}
	}
	text := l.s[l.pos : l.pos+n]
	sign := byte(0)
	if at := l.pos + n + 2; open != "" && at < len(l.s) && (l.s[at] == '-' || l.s[at] == '+') {
		sign = l.s[at]
	}
	l.text(text, open, sign)
	l.advance(n)
	if open == "" {
		return nil
	}
	l.advance(2)
	if sign != 0 {
		l.advance(1)
	}
	switch open {
	case "{#":
		return l.comment()
	case "{{":
		l.add(tokVar, "")
		return l.tag("}}", tokVarEnd)
	}
	if done, err := l.raw(); done || err != nil {
		return err
	}
	l.add(tokBlock, "")
	return l.tag("%}", tokBlockEnd)
}

// text adds a text token, stripped as the tags around it say.
func (l *lexer) text(text, open string, sign byte) {
	if l.stripNext {
		text = strings.TrimLeft(text, space)
	}
	switch {
	case sign == '-':
		text = strings.TrimRight(text, space)
	case sign != '+' && (open == "{%" || open == "{#"):
		from := strings.LastIndexByte(text, '\n') + 1
		if (from > 0 || l.lineStart) && strings.Trim(text[from:], space) == "" {
			text = text[:from]
		}
	}
	l.stripNext, l.lineStart = false, false
	if text != "" {
		l.add(tokText, text)
	}
}

const space = " \t\n\v\f"

func (l *lexer) comment() error {
	i := strings.Index(l.s[l.pos:], "#}")
	if i < 0 {
		return l.errorf("comment without an end")
	}
	sign := byte(0)
	if i > 0 {
		sign = l.s[l.pos+i-1]
	}
	l.advance(i + 2)
	l.tagEnded(sign, true)
	return nil
}

// tagEnded strips what follows a tag: with - all white space, after a block one newline.
func (l *lexer) tagEnded(sign byte, block bool) {
	switch {
	case sign == '-':
		l.stripNext = true
	case block && sign != '+' && strings.HasPrefix(l.s[l.pos:], "\n"):
		l.advance(1)
		l.lineStart = true
	}
}

// raw reads {% raw %}…{% endraw %}; done is false if the tag is another one.
func (l *lexer) raw() (done bool, err error) {
	end, ok := tagOf(l.s[l.pos:], "raw")
	if !ok {
		return false, nil
	}
	l.advance(end)
	l.tagEnded(l.s[l.pos-3], true)
	if l.stripNext {
		rest := strings.TrimLeft(l.s[l.pos:], space)
		l.advance(len(l.s) - l.pos - len(rest))
		l.stripNext = false
	}
	for i := l.pos; i+1 < len(l.s); i++ {
		if l.s[i] != '{' || l.s[i+1] != '%' {
			continue
		}
		from, sign := i+2, byte(0)
		if from < len(l.s) && (l.s[from] == '-' || l.s[from] == '+') {
			sign = l.s[from]
			from++
		}
		if n, ok := tagOf(l.s[from:], "endraw"); ok {
			l.text(l.s[l.pos:i], "{%", sign)
			l.advance(from + n - l.pos)
			l.tagEnded(l.s[l.pos-3], true)
			return true, nil
		}
	}
	return false, l.errorf("raw without endraw")
}

// tagOf says that s, which follows {% and its sign, is the tag of this name, and how long it is.
func tagOf(s, name string) (int, bool) {
	rest, ok := strings.CutPrefix(strings.TrimLeft(s, space), name)
	if !ok {
		return 0, false
	}
	rest = strings.TrimLeft(rest, space)
	if len(rest) > 0 && (rest[0] == '-' || rest[0] == '+') {
		rest = rest[1:]
	}
	if rest, ok = strings.CutPrefix(rest, "%}"); !ok {
		return 0, false
	}
	return len(s) - len(rest), true
}

// tag reads tokens up to the end of the tag. An end inside of brackets is not one: {{ {"a": {}} }}.
func (l *lexer) tag(end string, kind tokKind) error {
	open := 0
	for {
		rest := strings.TrimLeft(l.s[l.pos:], space)
		l.advance(len(l.s) - l.pos - len(rest))
		if rest == "" {
			return l.errorf("a tag has no end %s", end)
		}
		sign := byte(0)
		if rest[0] == '-' || rest[0] == '+' {
			sign, rest = rest[0], rest[1:]
		}
		if open == 0 && strings.HasPrefix(rest, end) {
			if sign != 0 {
				l.advance(1)
			}
			l.add(kind, "")
			l.advance(len(end))
			l.tagEnded(sign, kind == tokBlockEnd)
			return nil
		}
		if err := l.token(); err != nil {
			return err
		}
		if t := l.toks[len(l.toks)-1]; t.kind == tokOp {
			switch t.text {
			case "(", "[", "{":
				open++
			case ")", "]", "}":
				open = max(open-1, 0)
			}
		}
	}
}

func isNameByte(c byte, first bool) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || !first && c >= '0' && c <= '9'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// token reads one token inside of a tag; pos is not at white space.
func (l *lexer) token() error {
	s := l.s[l.pos:]
	switch c := s[0]; {
	case isNameByte(c, true):
		n := 1
		for n < len(s) && isNameByte(s[n], false) {
			n++
		}
		l.add(tokName, s[:n])
		l.advance(n)
	case isDigit(c):
		l.number(s)
	case c == '"' || c == '\'':
		return l.str(s)
	default:
		for _, op := range []string{"**", "//", "==", "!=", "<=", ">="} {
			if strings.HasPrefix(s, op) {
				l.add(tokOp, op)
				l.advance(2)
				return nil
			}
		}
		if strings.IndexByte("+-*/%~<>=()[]{},.:|", c) < 0 {
			r, _ := utf8.DecodeRuneInString(s)
			return l.errorf("character %q is not part of an expression", r)
		}
		l.add(tokOp, s[:1])
		l.advance(1)
	}
	return nil
}

func (l *lexer) number(s string) {
	n, kind := 0, tokInt
	for n < len(s) && (isDigit(s[n]) || s[n] == '_') {
		n++
	}
	if n+1 < len(s) && s[n] == '.' && isDigit(s[n+1]) {
		kind = tokFloat
		for n++; n < len(s) && isDigit(s[n]); n++ {
		}
	}
	if n+1 < len(s) && (s[n] == 'e' || s[n] == 'E') {
		m := n + 1
		if s[m] == '-' || s[m] == '+' {
			m++
		}
		if m < len(s) && isDigit(s[m]) {
			kind = tokFloat
			for n = m; n < len(s) && isDigit(s[n]); n++ {
			}
		}
	}
	l.add(kind, strings.ReplaceAll(s[:n], "_", ""))
	l.advance(n)
}

// str reads a string literal with Python's escapes.
func (l *lexer) str(s string) error {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == s[0]:
			l.add(tokString, b.String())
			l.advance(i + 1)
			return nil
		case c != '\\' || i+1 == len(s):
			b.WriteByte(c)
		default:
			n, err := unescape(&b, s[i+1:])
			if err != nil {
				return l.errorf("%v", err)
			}
			i += n
		}
	}
	return l.errorf("string without an end")
}

// unescape writes what the escape after a backslash means and returns its length.
func unescape(b *strings.Builder, s string) (int, error) {
	const from, to = "abfnrtv\\'\"", "\a\b\f\n\r\t\v\\'\""
	if i := strings.IndexByte(from, s[0]); i >= 0 {
		b.WriteByte(to[i])
		return 1, nil
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[0]]
	switch {
	case s[0] == '\n':
		return 1, nil
	case digits == 0:
		b.WriteByte('\\')
		b.WriteByte(s[0])
		return 1, nil
	case len(s) <= digits:
		return 0, fmt.Errorf("escape \\%c without its digits", s[0])
	}
	v, err := strconv.ParseUint(s[1:1+digits], 16, 32)
	if err != nil || v > utf8.MaxRune {
		return 0, fmt.Errorf("escape \\%s is not a character", s[:1+digits])
	}
	b.WriteRune(rune(v))
	return 1 + digits, nil
}
