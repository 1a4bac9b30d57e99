package tokenizer

import (
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// maxNormal bounds the bytes that normalizing may make of one text. No sound normalizer comes near it.
const maxNormal = 4 * MaxText

var errGrows = fmt.Errorf("normalizing makes more than %d bytes of the text; encode less at once", maxNormal)

// normalizer is a list of steps that rewrite text before it is split.
type normalizer []normStep

// normStep rewrites a piece.
type normStep func(s string, at place) (string, error)

func (n normalizer) apply(s string, at place) (string, error) {
	var err error
	for _, step := range n {
		if s, err = step(s, at); err != nil {
			return "", err
		}
		if len(s) > maxNormal {
			return "", errGrows
		}
	}
	return s, nil
}

func pure(f func(string) string) normStep {
	return func(s string, _ place) (string, error) { return f(s), nil }
}

func form(f norm.Form) normStep { return pure(f.String) }

// prepend puts text before a piece that is not empty.
func prepend(text string) normStep {
	return func(s string, at place) (string, error) {
		if at != middle && s != "" {
			s = text + s
		}
		return s, nil
	}
}

func replace(old, with string) normStep {
	return func(s string, _ place) (string, error) { return replaceAll(s, old, with, maxNormal) }
}

// replaceAll replaces old, if the result has at most limit bytes.
func replaceAll(s, old, with string, limit int) (string, error) {
	if old == "" {
		return s, nil
	}
	if n := strings.Count(s, old); n > 0 && len(with) > (limit-len(s))/n+len(old) {
		return "", errGrows
	}
	return strings.ReplaceAll(s, old, with), nil
}

// replacePattern replaces each match of a regular expression.
func replacePattern(expr, with string) (normStep, error) {
	find, err := pattern(expr)
	if err != nil {
		return nil, err
	}
	return func(s string, _ place) (string, error) {
		p, err := find(s)
		if err != nil {
			return "", err
		}
		var b strings.Builder
		for i, part := range p.parts {
			if p.match[i] {
				part = with
			}
			if b.WriteString(part); b.Len() > maxNormal {
				return "", errGrows
			}
		}
		return b.String(), nil
	}, nil
}

func trim(left, right bool) normStep {
	return pure(func(s string) string {
		if left {
			s = strings.TrimLeftFunc(s, unicode.IsSpace)
		}
		if right {
			s = strings.TrimRightFunc(s, unicode.IsSpace)
		}
		return s
	})
}

// stripAccents drops combining marks.
func stripAccents(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, s)
}

// singleSpaces is SentencePiece's remove_extra_whitespaces.
func singleSpaces(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' }), " ")
}
