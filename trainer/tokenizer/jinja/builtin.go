package jinja

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// globals are the functions every template can call. strftime_now is not among them, see Today.
func globals() map[string]any {
	return map[string]any{
		"range":           function(rangeOf),
		"raise_exception": function(raise),
		"namespace": function(func(_ *run, a args) (any, error) {
			d, err := dictOf(a)
			return namespace{d}, err
		}),
		"dict": function(func(_ *run, a args) (any, error) { return dictOf(a) }),
	}
}

// dictOf is dict(mapping, key=value, …).
func dictOf(a args) (*Dict, error) {
	out := NewDict()
	for _, v := range append(slices.Clone(a.pos), a.kw) {
		d, ok := v.(*Dict)
		if !ok {
			return out, fmt.Errorf("a mapping cannot be made of %s", typeName(v))
		}
		for _, k := range d.keys {
			out.Set(k, d.m[k])
		}
	}
	return out, nil
}

func raise(r *run, a args) (any, error) {
	msg, err := r.str(a.get(0, "message", "the conversation does not fit the template"))
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%.300s", msg)
}

func rangeOf(r *run, a args) (any, error) {
	var n [3]int64
	n[2] = 1
	if len(a.pos) < 1 || len(a.pos) > 3 {
		return nil, errors.New("range wants one to three integers")
	}
	for i, v := range a.pos {
		x, _, isInt, ok := number(v)
		if !ok || !isInt || x > 1<<40 || x < -1<<40 {
			return nil, errors.New("range wants integers")
		}
		n[i] = x
	}
	if len(a.pos) == 1 {
		n[0], n[1] = 0, n[0]
	}
	if n[2] == 0 {
		return nil, errors.New("range with a step of zero")
	}
	if (n[1]-n[0])/n[2] > maxSteps {
		return nil, errSteps
	}
	out := []any{}
	for i := n[0]; n[2] > 0 && i < n[1] || n[2] < 0 && i > n[1]; i += n[2] {
		out = append(out, i)
	}
	return out, r.charge(16 * len(out))
}

// tests lists the tests by name; like filters they get the value as their first argument.
func tests() map[string]function {
	is := func(f func(v any) bool) function {
		return func(_ *run, a args) (any, error) { return f(a.pos[0]), nil }
	}
	kind := func(names ...string) function {
		return is(func(v any) bool { return slices.Contains(names, typeName(v)) })
	}
	cmp := func(op string) function {
		return func(r *run, a args) (any, error) {
			if len(a.pos) < 2 {
				return nil, errors.New("a test lacks its argument")
			}
			return r.compare(op, a.pos[0], a.pos[1])
		}
	}
	modulo := func(want int64) function {
		return func(r *run, a args) (any, error) {
			m, err := r.binary("%", a.pos[0], a.get(1, "num", int64(2)))
			return m == want, err
		}
	}
	isDefined := func(v any) bool { _, missing := v.(undefined); return !missing }
	return map[string]function{
		"defined": is(isDefined), "undefined": is(func(v any) bool { return !isDefined(v) }),
		"none": kind("None"), "string": kind("str"), "mapping": kind("dict"), "boolean": kind("bool"), "integer": kind("int"),
		"float": kind("float"), "number": kind("int", "float", "bool"), "sequence": kind("list", "str", "dict"),
		"iterable": kind("list", "str", "dict", "undefined"), "true": is(func(v any) bool { return v == true }),
		"false": is(func(v any) bool { return v == false }), "callable": is(callable),
		"eq": cmp("=="), "equalto": cmp("=="), "ne": cmp("!="), "lt": cmp("<"), "lessthan": cmp("<"), "le": cmp("<="),
		"gt": cmp(">"), "greaterthan": cmp(">"), "ge": cmp(">="), "in": cmp("in"),
		"even": modulo(0), "odd": modulo(1), "divisibleby": modulo(0),
		"lower": is(func(v any) bool { s, ok := v.(string); return ok && s == strings.ToLower(s) }),
		"upper": is(func(v any) bool { s, ok := v.(string); return ok && s == strings.ToUpper(s) }),
	}
}

func callable(v any) bool {
	switch v.(type) {
	case function, *boundMacro:
		return true
	}
	return false
}

// method finds the method of a string or mapping.
func method(v any, name string) (function, bool) {
	switch v := v.(type) {
	case string:
		return strMethod(v, name)
	case *Dict:
		return dictMethod(v, name)
	case []any:
		return listMethod(v, name)
	}
	return nil, false
}

func dictMethod(d *Dict, name string) (function, bool) {
	switch name {
	case "items":
		return func(r *run, _ args) (any, error) { return pairs(r, d) }, true
	case "keys":
		return func(r *run, _ args) (any, error) { return r.items(d) }, true
	case "values":
		return func(r *run, _ args) (any, error) {
			out := make([]any, len(d.keys))
			for i, k := range d.keys {
				out[i] = d.m[k]
			}
			return out, r.charge(16 * len(out))
		}, true
	case "get":
		return func(_ *run, a args) (any, error) {
			k, _ := a.get(0, "key", "").(string)
			if v, ok := d.Get(k); ok {
				return v, nil
			}
			return a.get(1, "default", nil), nil
		}, true
	}
	return nil, false
}

func listMethod(l []any, name string) (function, bool) {
	switch name {
	case "index", "count":
		return func(r *run, a args) (any, error) {
			n := int64(0)
			for i, v := range l {
				eq, err := r.equal(v, a.get(0, "value", nil))
				if err != nil {
					return nil, err
				}
				if eq && name == "index" {
					return int64(i), nil
				}
				if eq {
					n++
				}
			}
			if name == "index" {
				return nil, errors.New("the value is not in the list")
			}
			return n, nil
		}, true
	}
	return nil, false
}

func strMethod(s, name string) (function, bool) {
	switch name {
	case "strip", "lstrip", "rstrip":
		return func(_ *run, a args) (any, error) { return strip(s, name, a) }, true
	case "upper":
		return func(r *run, _ args) (any, error) { return strings.ToUpper(s), r.charge(2 * len(s)) }, true
	case "lower":
		return func(r *run, _ args) (any, error) { return strings.ToLower(s), r.charge(2 * len(s)) }, true
	case "title":
		return func(r *run, _ args) (any, error) { return title(s), r.charge(2 * len(s)) }, true
	case "capitalize":
		return func(r *run, _ args) (any, error) { return capitalize(s), r.charge(2 * len(s)) }, true
	case "startswith":
		return affix(s, strings.HasPrefix), true
	case "endswith":
		return affix(s, strings.HasSuffix), true
	case "removeprefix", "removesuffix":
		return func(_ *run, a args) (any, error) {
			x, _ := a.get(0, "affix", "").(string)
			if name == "removeprefix" {
				return strings.TrimPrefix(s, x), nil
			}
			return strings.TrimSuffix(s, x), nil
		}, true
	case "split", "rsplit":
		return func(r *run, a args) (any, error) { return split(r, s, name == "rsplit", a) }, true
	case "splitlines":
		return func(r *run, _ args) (any, error) {
			lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
			if s == "" {
				lines = nil
			}
			return anys(r, lines)
		}, true
	case "replace":
		return func(r *run, a args) (any, error) { return filterReplace(r, args{append([]any{s}, a.pos...), a.kw}) }, true
	case "join":
		return func(r *run, a args) (any, error) {
			return filterJoin(r, args{[]any{a.get(0, "iterable", []any{}), s}, NewDict()})
		}, true
	case "count":
		return func(r *run, a args) (any, error) {
			x, _ := a.get(0, "sub", "").(string)
			return int64(strings.Count(s, x)), r.charge(len(s))
		}, true
	case "find", "index", "rfind":
		return func(r *run, a args) (any, error) { return find(r, s, name, a) }, true
	case "isdigit":
		return every(s, unicode.IsDigit), true
	case "isalpha":
		return every(s, unicode.IsLetter), true
	case "isalnum":
		return every(s, func(c rune) bool { return unicode.IsLetter(c) || unicode.IsNumber(c) }), true
	case "isspace":
		return every(s, isSpace), true
	case "isupper":
		return func(*run, args) (any, error) { return s == strings.ToUpper(s) && s != strings.ToLower(s), nil }, true
	case "islower":
		return func(*run, args) (any, error) { return s == strings.ToLower(s) && s != strings.ToUpper(s), nil }, true
	}
	return nil, false
}

func every(s string, is func(rune) bool) function {
	return func(r *run, _ args) (any, error) {
		return s != "" && strings.IndexFunc(s, func(c rune) bool { return !is(c) }) < 0, r.charge(len(s))
	}
}

func strip(s, name string, a args) (any, error) {
	is := isSpace
	if chars, ok := a.get(0, "chars", nil).(string); ok {
		if len(chars) > 256 { // each character of s is looked for among them
			return nil, errors.New("strip of more than 256 characters")
		}
		is = func(c rune) bool { return strings.ContainsRune(chars, c) }
	}
	if name != "rstrip" {
		s = strings.TrimLeftFunc(s, is)
	}
	if name != "lstrip" {
		s = strings.TrimRightFunc(s, is)
	}
	return s, nil
}

// affix is startswith and endswith, which take one string or several.
func affix(s string, has func(s, x string) bool) function {
	return func(_ *run, a args) (any, error) {
		list, ok := a.get(0, "affix", nil).([]any)
		if !ok {
			list = a.pos
		}
		for _, x := range list {
			t, ok := x.(string)
			if !ok {
				return nil, fmt.Errorf("a string cannot start or end with %s", typeName(x))
			}
			if has(s, t) {
				return true, nil
			}
		}
		return false, nil
	}
}

func split(r *run, s string, fromRight bool, a args) (any, error) {
	sep, ok := a.get(0, "sep", nil).(string)
	limit, _, _, _ := number(a.get(1, "maxsplit", int64(-1)))
	if !ok {
		if limit >= 0 {
			return nil, errors.New("split at white space takes no limit here")
		}
		return anys(r, strings.FieldsFunc(s, isSpace))
	}
	if sep == "" {
		return nil, errors.New("split at an empty string")
	}
	parts := strings.Split(s, sep)
	if limit >= 0 && int64(len(parts)) > limit+1 {
		n := int(limit)
		if fromRight {
			head := strings.Join(parts[:len(parts)-n], sep)
			parts = append([]string{head}, parts[len(parts)-n:]...)
		} else {
			parts = append(parts[:n:n], strings.Join(parts[n:], sep))
		}
	}
	return anys(r, parts)
}

func anys(r *run, parts []string) (any, error) {
	out := make([]any, len(parts))
	n := 0
	for i, p := range parts {
		out[i] = p
		n += len(p) + 16
	}
	return out, r.charge(n)
}

// find returns where a string stands, counted in characters; -1 if it does not, for which index has an error.
func find(r *run, s, name string, a args) (any, error) {
	x, ok := a.get(0, "sub", nil).(string)
	if !ok {
		return nil, fmt.Errorf("%s wants a string", name)
	}
	if err := r.charge(len(s)); err != nil {
		return nil, err
	}
	i := strings.Index(s, x)
	if name == "rfind" {
		i = strings.LastIndex(s, x)
	}
	if i < 0 {
		if name == "index" {
			return nil, errors.New("the string is not in the other")
		}
		return int64(-1), nil
	}
	return int64(len([]rune(s[:i]))), nil
}
