package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/dlclark/regexp2"
)

// splitter cuts normalized text into words, in order.
type splitter func(piece string, at place, emit func(word string) error) error

// place says what stands before a piece of text.
type place int

const (
	middle place = iota // text
	begin               // nothing
	after               // an added token
)

// whole takes the piece as one word.
func whole(piece string, _ place, emit func(string) error) error {
	return emit(piece)
}

// then cuts the words of a further with b.
func then(a, b splitter) splitter {
	return func(piece string, at place, emit func(string) error) error {
		return a(piece, at, func(w string) error {
			err := b(w, at, emit)
			at = middle
			return err
		})
	}
}

// scan cuts with a scanner.
func scan(sc scanner) splitter {
	return func(piece string, _ place, emit func(string) error) error {
		for piece != "" {
			n := sc(piece)
			if err := emit(piece[:n]); err != nil {
				return err
			}
			piece = piece[n:]
		}
		return nil
	}
}

// spaceBefore puts a space before a piece that has none, as GPT-2's add_prefix_space does.
func spaceBefore(next splitter) splitter {
	return func(piece string, at place, emit func(string) error) error {
		if at != middle && piece != "" && !strings.HasPrefix(piece, " ") {
			piece = " " + piece
		}
		return next(piece, at, emit)
	}
}

// atMark cuts before each mark; with runs, only before a mark that does not follow another.
func atMark(mark string, runs bool) splitter {
	return func(piece string, _ place, emit func(string) error) error {
		for piece != "" {
			end := len(piece)
			from := 0
			for runs && strings.HasPrefix(piece[from:], mark) {
				from += len(mark)
			}
			if from == 0 && strings.HasPrefix(piece, mark) {
				from = len(mark)
			}
			if i := strings.Index(piece[from:], mark); i >= 0 {
				end = from + i
			}
			if err := emit(piece[:end]); err != nil {
				return err
			}
			piece = piece[end:]
		}
		return nil
	}
}

// metaspace replaces spaces by mark, puts one before the text (scheme first), before each piece of it (always) or
// nowhere (never), and cuts at marks: SentencePiece's way in the newer form of
// tokenizer.json.
func metaspace(mark, scheme string, cut bool) splitter {
	next := splitter(whole)
	if cut {
		next = atMark(mark, false)
	}
	return func(piece string, at place, emit func(string) error) error {
		piece = strings.ReplaceAll(piece, " ", mark)
		if (at == begin || at == after && scheme == "always") && scheme != "never" && piece != "" && !strings.HasPrefix(piece, mark) {
			piece = mark + piece
		}
		return next(piece, at, emit)
	}
}

// behaviour says what becomes of the matches of a Split.
type behaviour func(p matched, emit func(string) error) error

// matched is a piece cut into matches and what lies between them.
type matched struct {
	parts []string
	match []bool
}

func behaviours(name string) (behaviour, bool) {
	switch name {
	case "Isolated":
		return isolated, true
	case "Removed":
		return removed, true
	case "MergedWithPrevious":
		return withPrevious, true
	case "MergedWithNext":
		return withNext, true
	case "Contiguous":
		return contiguous, true
	}
	return nil, false
}

func isolated(p matched, emit func(string) error) error {
	for _, s := range p.parts {
		if err := emit(s); err != nil {
			return err
		}
	}
	return nil
}

func removed(p matched, emit func(string) error) error {
	for i, s := range p.parts {
		if p.match[i] {
			continue
		}
		if err := emit(s); err != nil {
			return err
		}
	}
	return nil
}

// joined emits parts, each glued to the one before it where glue says so. Parts are neighbours in one string.
func joined(p matched, glue func(i int) bool, emit func(string) error) error {
	var word strings.Builder
	for i, s := range p.parts {
		if i > 0 && !glue(i) {
			if err := emit(word.String()); err != nil {
				return err
			}
			word.Reset()
		}
		word.WriteString(s)
	}
	if word.Len() == 0 {
		return nil
	}
	return emit(word.String())
}

func withPrevious(p matched, emit func(string) error) error {
	return joined(p, func(i int) bool { return p.match[i] && !p.match[i-1] }, emit)
}

func withNext(p matched, emit func(string) error) error {
	return joined(p, func(i int) bool { return p.match[i-1] && !p.match[i] }, emit)
}

func contiguous(p matched, emit func(string) error) error {
	return joined(p, func(i int) bool { return p.match[i] == p.match[i-1] }, emit)
}

// matching cuts by the matches of find and hands them to a behaviour. invert exchanges matches and the rest.
func matching(find func(piece string) (matched, error), do behaviour, invert bool) splitter {
	return func(piece string, _ place, emit func(string) error) error {
		p, err := find(piece)
		if err != nil {
			return err
		}
		for i := range p.match {
			p.match[i] = p.match[i] != invert
		}
		return do(p, emit)
	}
}

func (p *matched) add(s string, match bool) {
	if s != "" {
		p.parts, p.match = append(p.parts, s), append(p.match, match)
	}
}

// literal finds a string.
func literal(lit string) func(string) (matched, error) {
	return func(piece string) (matched, error) {
		var p matched
		for {
			i := strings.Index(piece, lit)
			if i < 0 || lit == "" {
				p.add(piece, false)
				return p, nil
			}
			p.add(piece[:i], false)
			p.add(piece[i:i+len(lit)], true)
			piece = piece[i+len(lit):]
		}
	}
}

// characters finds runs of characters, or with single each of them.
func characters(is func(rune) bool, single bool) func(string) (matched, error) {
	return func(piece string) (matched, error) {
		var p matched
		for piece != "" {
			out := run(piece, func(r rune) bool { return !is(r) })
			p.add(piece[:out], false)
			piece = piece[out:]
			in := run(piece, is)
			if single {
				in = firstRunes(piece, in, 1)
			}
			p.add(piece[:in], true)
			piece = piece[in:]
		}
		return p, nil
	}
}

func isWord(r rune) bool {
	return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r)
}

// words is \w+|[^\w\s]+.
func words(piece string, _ place, emit func(string) error) error {
	for piece != "" {
		is := func(r rune) bool { return !isWord(r) && !unicode.IsSpace(r) }
		r := []rune(piece[:firstRunes(piece, len(piece), 1)])[0]
		switch {
		case unicode.IsSpace(r):
			piece = piece[run(piece, unicode.IsSpace):]
			continue
		case isWord(r):
			is = isWord
		}
		n := run(piece, is)
		if err := emit(piece[:n]); err != nil {
			return err
		}
		piece = piece[n:]
	}
	return nil
}

const (
	maxPattern   = 4096            // bytes
	matchTimeout = time.Second     // for one match; a sound pattern takes microseconds
	patternTime  = 5 * time.Second // for one text
	maxPatternIn = 4 << 20         // bytes of text that a pattern without a scanner is run on
)

// pattern finds the matches of a regular expression that has no scanner. It backtracks, so it runs under a time limit.
func pattern(expr string) (find func(string) (matched, error), err error) {
	if len(expr) > maxPattern {
		return nil, fmt.Errorf("pattern of %d bytes; at most %d", len(expr), maxPattern)
	}
	defer func() { // the expression is a stranger's, the engine somebody else's
		if p := recover(); p != nil {
			find, err = nil, fmt.Errorf("pattern %.60q: %v", expr, p)
		}
	}()
	re, err := regexp2.Compile(expr, regexp2.None)
	if err != nil {
		return nil, fmt.Errorf("pattern %.60q: %w", expr, err)
	}
	re.MatchTimeout = matchTimeout
	return func(piece string) (p matched, err error) {
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("pattern %.60q: %v", expr, v)
			}
		}()
		return findAll(re, piece)
	}, nil
}

func findAll(re *regexp2.Regexp, piece string) (matched, error) {
	var p matched
	if len(piece) > maxPatternIn {
		return p, fmt.Errorf("text of %d bytes; this tokenizer's pattern is run on at most %d at once", len(piece), maxPatternIn)
	}
	runes := []rune(piece)
	began := time.Now()
	done := 0
	m, err := re.FindRunesMatch(runes)
	for ; m != nil && err == nil; m, err = re.FindNextMatch(m) {
		if m.Length == 0 {
			continue
		}
		p.add(string(runes[done:m.Index]), false)
		done = m.Index + m.Length
		p.add(string(runes[m.Index:done]), true)
		if time.Since(began) > patternTime {
			return p, errors.New("the tokenizer's splitting pattern takes too long on this text")
		}
	}
	if err != nil {
		return p, fmt.Errorf("split into words: %w", err)
	}
	p.add(string(runes[done:]), false)
	return p, nil
}
