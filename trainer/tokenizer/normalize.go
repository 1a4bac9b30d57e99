package tokenizer

import (
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

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
		if len(s) > 4*MaxText {
			return "", fmt.Errorf("normalizing makes %d bytes of the text; encode less at once", len(s))
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
	return pure(func(s string) string {
		if old == "" {
			return s
		}
		return strings.ReplaceAll(s, old, with)
	})
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
			b.WriteString(part)
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
