package jinja

import (
	"errors"
	"fmt"
	"math"
	"slices"
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

func filterFirst(r *run, a args) (any, error) {
	items, err := r.items(a.pos[0])
	if err != nil || len(items) == 0 {
		return undefined{"the first of nothing"}, err
	}
	return items[0], nil
}

func filterLast(r *run, a args) (any, error) {
	items, err := r.items(a.pos[0])
	if err != nil || len(items) == 0 {
		return undefined{"the last of nothing"}, err
	}
	return items[len(items)-1], nil
}

func filterList(r *run, a args) (any, error) {
	items, err := r.items(a.pos[0])
	if err != nil {
		return nil, err
	}
	return slices.Clone(items), r.charge(16 * len(items))
}

func filterReverse(r *run, a args) (any, error) {
	items, err := filterList(r, a)
	if err != nil {
		return nil, err
	}
	out, _ := items.([]any)
	slices.Reverse(out)
	if _, ok := a.pos[0].(string); ok {
		return joinStrings(out), nil
	}
	return out, nil
}

func filterItems(r *run, a args) (any, error) {
	switch d := a.pos[0].(type) {
	case undefined:
		return []any{}, nil
	case *Dict:
		return pairs(r, d)
	}
	return nil, fmt.Errorf("items of %s", typeName(a.pos[0]))
}

func pairs(r *run, d *Dict) (any, error) {
	if err := r.charge(64 * len(d.keys)); err != nil {
		return nil, err
	}
	out := make([]any, len(d.keys))
	for i, k := range d.keys {
		out[i] = []any{k, d.m[k]}
	}
	return out, nil
}

func filterDictsort(r *run, a args) (any, error) {
	d, ok := a.pos[0].(*Dict)
	if !ok {
		return nil, fmt.Errorf("dictsort of %s", typeName(a.pos[0]))
	}
	sorted := NewDict()
	keys := slices.Clone(d.keys)
	slices.SortStableFunc(keys, func(x, y string) int { return strings.Compare(strings.ToLower(x), strings.ToLower(y)) })
	for _, k := range keys {
		sorted.Set(k, d.m[k])
	}
	return pairs(r, sorted)
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
	_, f, _, ok := number(a.pos[0])
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
	return math.RoundToEven(f*scale) / scale, nil
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

func filterJoin(r *run, a args) (any, error) {
	items, err := r.items(a.pos[0])
	if err != nil {
		return nil, err
	}
	sep, err := r.str(a.get(1, "d", ""))
	if err != nil {
		return nil, err
	}
	name, _ := a.get(2, "attribute", nil).(string)
	var b strings.Builder
	for i, v := range items {
		if name != "" {
			if v, err = r.path(v, name); err != nil {
				return nil, err
			}
		}
		s, err := r.str(v)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(s)
		if err := r.charge(len(sep) + len(s)); err != nil {
			return nil, err
		}
		if b.Len() > MaxOutput {
			return nil, errBytes
		}
	}
	return b.String(), nil
}

// path follows a dotted attribute, or takes an element.
func (r *run) path(v, name any) (any, error) {
	dotted, ok := name.(string)
	if !ok {
		return r.index(v, name)
	}
	for n := range strings.SplitSeq(dotted, ".") {
		var err error
		if i, bad := strconv.ParseInt(n, 10, 64); bad == nil {
			v, err = r.index(v, i)
		} else {
			v, err = r.index(v, n)
		}
		if err != nil {
			return nil, err
		}
	}
	return v, nil
}

// filterMap is map(attribute="a.b", default=…) or map("filter", arguments…).
func filterMap(r *run, a args) (any, error) {
	items, err := r.items(a.pos[0])
	if err != nil {
		return nil, err
	}
	each := func(v any) (any, error) {
		name := a.get(1<<30, "attribute", nil)
		if name == nil {
			return nil, errors.New("map wants a filter or attribute=")
		}
		v, err := r.path(v, name)
		if _, missing := v.(undefined); missing {
			v = a.get(1<<30, "default", v)
		}
		return v, err
	}
	if len(a.pos) > 1 {
		name, _ := a.pos[1].(string)
		f, ok := filters()[name]
		if !ok {
			return nil, fmt.Errorf("filter %.40q is not supported", name)
		}
		each = func(v any) (any, error) { return f(r, args{append([]any{v}, a.pos[2:]...), a.kw}) }
	}
	out := make([]any, 0, len(items))
	for _, v := range items {
		if err := r.step(); err != nil {
			return nil, err
		}
		v, err := each(v)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// selecting is select, reject, selectattr and rejectattr.
func selecting(byAttr, keep bool) function {
	return func(r *run, a args) (any, error) {
		items, err := r.items(a.pos[0])
		if err != nil {
			return nil, err
		}
		rest, name := a.pos[1:], ""
		if byAttr {
			if len(rest) == 0 {
				return nil, errors.New("selectattr wants an attribute")
			}
			name, _ = rest[0].(string)
			rest = rest[1:]
		}
		test := function(func(_ *run, a args) (any, error) { return truth(a.pos[0]), nil })
		if len(rest) > 0 {
			n, _ := rest[0].(string)
			t, ok := tests()[n]
			if !ok {
				return nil, fmt.Errorf("test %.40q is not supported", n)
			}
			test, rest = t, rest[1:]
		}
		out := []any{}
		for _, v := range items {
			if err := r.step(); err != nil {
				return nil, err
			}
			x := v
			if byAttr {
				if x, err = r.path(v, name); err != nil {
					return nil, err
				}
			}
			ok, err := test(r, args{append([]any{x}, rest...), a.kw})
			if err != nil {
				return nil, err
			}
			if truth(ok) == keep {
				out = append(out, v)
			}
		}
		return out, nil
	}
}

func filterSort(r *run, a args) (any, error) {
	list, err := filterList(r, a)
	if err != nil {
		return nil, err
	}
	out, _ := list.([]any)
	name, _ := a.get(3, "attribute", nil).(string)
	key := func(v any) any {
		if name != "" {
			x, e := r.path(v, name)
			err = errors.Join(err, e)
			v = x
		}
		if s, ok := v.(string); ok && !truth(a.get(2, "case_sensitive", false)) {
			return strings.ToLower(s)
		}
		return v
	}
	slices.SortStableFunc(out, func(x, y any) int {
		if err != nil {
			return 0
		}
		if err = r.step(); err != nil {
			return 0
		}
		c, e := compare(key(x), key(y))
		err = errors.Join(err, e)
		if truth(a.get(1, "reverse", false)) {
			return -c
		}
		return c
	})
	return out, err
}

func filterUnique(r *run, a args) (any, error) {
	items, err := r.items(a.pos[0])
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, v := range items {
		in, err := r.contains(out, v)
		if err != nil {
			return nil, err
		}
		if !in {
			out = append(out, v)
		}
	}
	return out, nil
}

func filterSum(r *run, a args) (any, error) {
	items, err := r.items(a.pos[0])
	if err != nil {
		return nil, err
	}
	sum := a.get(2, "start", int64(0))
	name, _ := a.get(1, "attribute", nil).(string)
	for _, v := range items {
		if name != "" {
			if v, err = r.path(v, name); err != nil {
				return nil, err
			}
		}
		if sum, err = r.binary("+", sum, v); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

// extreme is min and max.
func extreme(sign int) function {
	return func(r *run, a args) (any, error) {
		items, err := r.items(a.pos[0])
		if err != nil || len(items) == 0 {
			return undefined{"an element of nothing"}, err
		}
		best := items[0]
		for _, v := range items[1:] {
			c, err := compare(v, best)
			if err != nil {
				return nil, err
			}
			if c*sign > 0 {
				best = v
			}
		}
		return best, nil
	}
}
