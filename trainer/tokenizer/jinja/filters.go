package jinja

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// filters lists the filters by name. Each gets the value as its first argument.
func filters() map[string]function {
	return map[string]function{
		"abs": filterAbs, "capitalize": text(capitalize), "count": filterLength, "d": filterDefault, "default": filterDefault,
		"dictsort": filterDictsort, "e": text(escape), "escape": text(escape), "first": filterFirst, "float": filterFloat,
		"indent": filterIndent, "int": filterInt, "items": filterItems, "join": filterJoin, "last": filterLast,
		"length": filterLength, "list": filterList, "lower": text(strings.ToLower), "map": filterMap, "max": extreme(1),
		"min": extreme(-1), "reject": selecting(false, false), "rejectattr": selecting(true, false), "replace": filterReplace,
		"reverse": filterReverse, "round": filterRound, "safe": filterSafe, "select": selecting(false, true),
		"selectattr": selecting(true, true), "sort": filterSort, "string": filterString, "sum": filterSum,
		"title": text(title), "tojson": filterTojson, "trim": filterTrim, "unique": filterUnique,
		"upper": text(strings.ToUpper), "wordcount": filterWordcount,
	}
}

// text makes a filter of a function of strings.
func text(f func(string) string) function {
	return func(r *run, a args) (any, error) {
		s, err := r.str(a.pos[0])
		if err != nil {
			return nil, err
		}
		return f(s), r.charge(4 * len(s))
	}
}

func capitalize(s string) string {
	for i := range s {
		if i > 0 {
			return strings.ToUpper(s[:i]) + strings.ToLower(s[i:])
		}
	}
	return strings.ToUpper(s)
}

func title(s string) string {
	word := false
	return strings.Map(func(c rune) rune {
		first := !word
		if word = unicode.IsLetter(c) || unicode.IsNumber(c) || c == '\''; first {
			return unicode.ToTitle(c)
		}
		return unicode.ToLower(c)
	}, s)
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;").Replace(s)
}

func filterSafe(_ *run, a args) (any, error) { return a.pos[0], nil }

func filterString(r *run, a args) (any, error) { return r.str(a.pos[0]) }

func filterAbs(_ *run, a args) (any, error) {
	i, f, isInt, ok := number(a.pos[0])
	switch {
	case !ok:
		return nil, fmt.Errorf("abs of %s", typeName(a.pos[0]))
	case isInt:
		return max(i, -i), nil
	}
	return math.Abs(f), nil
}

func filterDefault(_ *run, a args) (any, error) {
	_, missing := a.pos[0].(undefined)
	if missing || truth(a.get(2, "boolean", false)) && !truth(a.pos[0]) {
		return a.get(1, "default_value", ""), nil
	}
	return a.pos[0], nil
}

func filterLength(_ *run, a args) (any, error) {
	n, err := length(a.pos[0])
	return int64(n), err
}

func filterFloat(_ *run, a args) (any, error) {
	if _, f, _, ok := number(a.pos[0]); ok {
		return f, nil
	}
	if s, ok := a.pos[0].(string); ok {
		if f, err := strconv.ParseFloat(strings.TrimSpace(s), 64); err == nil {
			return f, nil
		}
	}
	return a.get(1, "default", 0.0), nil
}

func filterInt(_ *run, a args) (any, error) {
	if i, f, isInt, ok := number(a.pos[0]); ok {
		if !isInt && math.Abs(f) < 1<<62 {
			i = int64(f)
		}
		return i, nil
	}
	if s, ok := a.pos[0].(string); ok {
		s = strings.TrimSpace(s)
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return i, nil
		}
		if f, err := strconv.ParseFloat(s, 64); err == nil && math.Abs(f) < 1<<62 {
			return int64(f), nil
		}
	}
	return a.get(1, "default", int64(0)), nil
}

func filterRound(_ *run, a args) (any, error) {
	i, f, whole, ok := number(a.pos[0])
	digits, _, isInt, ok2 := number(a.get(1, "precision", int64(0)))
	if !ok || !ok2 || !isInt || digits < -20 || digits > 20 {
		return nil, errors.New("round wants a number and at most 20 digits")
	}
	scale := math.Pow(10, float64(digits))
	switch a.get(2, "method", "common") {
	case "ceil":
		return math.Ceil(f*scale) / scale, nil
	case "floor":
		return math.Floor(f*scale) / scale, nil
	}
	if whole && digits >= 0 {
		return i, nil
	}
	if digits < 0 {
		return math.RoundToEven(f*scale) / scale, nil
	}
	return strconv.ParseFloat(strconv.FormatFloat(f, 'f', int(digits), 64), 64) // rounds the exact value, as Python does
}

func filterTrim(r *run, a args) (any, error) {
	s, err := r.str(a.pos[0])
	if err != nil {
		return nil, err
	}
	return strip(s, "strip", args{a.pos[1:], a.kw})
}

// isSpace is what Python's str.strip() removes.
func isSpace(c rune) bool { return unicode.IsSpace(c) || c >= 0x1c && c <= 0x1f }

func filterWordcount(r *run, a args) (any, error) {
	s, err := r.str(a.pos[0])
	return int64(len(strings.FieldsFunc(s, isSpace))), err
}

func filterReplace(r *run, a args) (any, error) {
	s, err := r.str(a.pos[0])
	if err != nil {
		return nil, err
	}
	old, ok1 := a.get(1, "old", nil).(string)
	with, ok2 := a.get(2, "new", nil).(string)
	count, _, _, ok3 := number(a.get(3, "count", int64(-1)))
	if !ok1 || !ok2 || !ok3 {
		return nil, errors.New("replace wants two strings")
	}
	return r.replace(s, old, with, count)
}

func (r *run) replace(s, old, with string, count int64) (any, error) {
	n := int64(strings.Count(s, old))
	if count >= 0 {
		n = min(n, count)
	}
	if len(with) > 0 && n > MaxOutput/int64(len(with)) {
		return nil, errBytes
	}
	if err := r.charge(len(s) + int(n)*len(with)); err != nil {
		return nil, err
	}
	return strings.Replace(s, old, with, int(n)), nil
}

func filterIndent(r *run, a args) (any, error) {
	s, err := r.str(a.pos[0])
	if err != nil {
		return nil, err
	}
	pad, ok := a.get(1, "width", int64(4)).(string)
	if !ok {
		n, _, isInt, ok := number(a.get(1, "width", int64(4)))
		if !ok || !isInt || n < 0 || n > 1<<10 {
			return nil, errors.New("indent wants a width of at most 1024")
		}
		pad = strings.Repeat(" ", int(n))
	}
	first, blank := truth(a.get(2, "first", false)), truth(a.get(3, "blank", false))
	if n := strings.Count(s, "\n") + 1; len(pad) > 0 && n > MaxOutput/len(pad) {
		return nil, errBytes
	}
	var b strings.Builder
	for i, line := range strings.Split(s, "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		if (i > 0 || first) && (line != "" || blank) {
			b.WriteString(pad)
		}
		b.WriteString(line)
	}
	return b.String(), r.charge(b.Len())
}
