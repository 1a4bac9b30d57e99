package jinja

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Dict is a mapping that keeps the order in which keys were set.
type Dict struct {
	keys []string
	m    map[string]any
}

// NewDict returns an empty Dict.
func NewDict() *Dict { return &Dict{m: map[string]any{}} }

// Set sets a key.
func (d *Dict) Set(k string, v any) {
	if _, ok := d.m[k]; !ok {
		d.keys = append(d.keys, k)
	}
	d.m[k] = v
}

// Get returns the value of a key.
func (d *Dict) Get(k string) (any, bool) {
	v, ok := d.m[k]
	return v, ok
}

// namespace is what namespace() makes: the one thing a template can change.
type namespace struct{ *Dict }

// undefined is the value of a name or key that is not there.
type undefined struct{ name string }

// function is what can be called.
type function func(r *run, a args) (any, error)

// args are the arguments of a call.
type args struct {
	pos []any
	kw  *Dict
}

// get returns argument i, or the one of this name, or def.
func (a args) get(i int, name string, def any) any {
	if i < len(a.pos) {
		return a.pos[i]
	}
	if v, ok := a.kw.Get(name); ok {
		return v
	}
	return def
}

// FromJSON reads a JSON value; objects keep their order, integers stay integers.
func FromJSON(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := jsonValue(dec, 0)
	if err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, errors.New("something follows the JSON value")
	}
	return v, nil
}

func jsonValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("JSON nested too deeply")
	}
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Number:
		if i, err := strconv.ParseInt(string(t), 10, 64); err == nil {
			return i, nil
		}
		return t.Float64()
	case json.Delim:
		if t == '[' {
			return jsonList(dec, depth)
		}
		return jsonDict(dec, depth)
	}
	return t, nil // nil, bool, string
}

func jsonList(dec *json.Decoder, depth int) (any, error) {
	out := []any{}
	for dec.More() {
		v, err := jsonValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	_, err := dec.Token()
	return out, err
}

func jsonDict(dec *json.Decoder, depth int) (any, error) {
	out := NewDict()
	for dec.More() {
		k, err := dec.Token()
		if err != nil {
			return nil, err
		}
		v, err := jsonValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		out.Set(k.(string), v) // the decoder lets only strings be keys
	}
	_, err := dec.Token()
	return out, err
}

func truth(v any) bool {
	switch v := v.(type) {
	case nil, undefined:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case *Dict:
		return len(v.keys) > 0
	}
	return true
}

// typeName is how Python calls the type of v.
func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "None"
	case undefined:
		return "undefined"
	case bool:
		return "bool"
	case int64:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case []any:
		return "list"
	case *Dict:
		return "dict"
	}
	return "object"
}

// str is Python's str().
func (r *run) str(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case undefined:
		return "", nil
	}
	return r.repr(v, 0)
}

// repr is Python's repr().
func (r *run) repr(v any, depth int) (string, error) {
	if err := r.step(); err != nil || depth > maxDepth {
		return "", errors.Join(err, errSteps)
	}
	switch v := v.(type) {
	case nil:
		return "None", nil
	case undefined:
		return "Undefined", nil
	case bool:
		if v {
			return "True", nil
		}
		return "False", nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		return floatText(v), nil
	case string:
		return quote(v), r.charge(2 * len(v))
	case []any:
		return r.reprAll("[", "]", len(v), func(i int) (string, error) { return r.repr(v[i], depth+1) })
	case *Dict:
		return r.reprAll("{", "}", len(v.keys), func(i int) (string, error) {
			s, err := r.repr(v.m[v.keys[i]], depth+1)
			return quote(v.keys[i]) + ": " + s, err
		})
	}
	return "<" + typeName(v) + ">", nil
}

func (r *run) reprAll(open, end string, n int, item func(int) (string, error)) (string, error) {
	var b strings.Builder
	b.WriteString(open)
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		s, err := item(i)
		if err != nil {
			return "", err
		}
		if err := r.charge(len(s)); err != nil {
			return "", err
		}
		b.WriteString(s)
	}
	b.WriteString(end)
	return b.String(), nil
}

// quote is the repr of a string.
func quote(s string) string {
	q := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	var b strings.Builder
	b.WriteByte(q)
	for _, c := range s {
		switch {
		case c == rune(q) || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte(q)
	return b.String()
}

// floatText is Python's repr of a float.
func floatText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// number reads v as a number: bools count as 0 and 1, as in Python.
func number(v any) (i int64, f float64, isInt, ok bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, 1, true, true
		}
		return 0, 0, true, true
	case int64:
		return v, float64(v), true, true
	case float64:
		return 0, v, false, true
	}
	return 0, 0, false, false
}

// equal is ==.
func (r *run) equal(a, b any) (bool, error) {
	if err := r.enter(); err != nil {
		return false, err
	}
	defer r.leave()
	if ai, af, aInt, ok := number(a); ok {
		bi, bf, bInt, ok := number(b)
		return ok && (aInt && bInt && ai == bi || (!aInt || !bInt) && af == bf), nil
	}
	switch a := a.(type) {
	case nil:
		return b == nil, nil
	case undefined:
		_, ok := b.(undefined)
		return ok, nil
	case string:
		s, ok := b.(string)
		return ok && a == s, nil
	case []any:
		l, ok := b.([]any)
		if !ok || len(a) != len(l) {
			return false, nil
		}
		for i := range a {
			if eq, err := r.equal(a[i], l[i]); !eq || err != nil {
				return false, err
			}
		}
		return true, nil
	case *Dict:
		d, ok := b.(*Dict)
		if !ok || len(a.keys) != len(d.keys) {
			return false, nil
		}
		for _, k := range a.keys {
			v, ok := d.Get(k)
			if !ok {
				return false, nil
			}
			if eq, err := r.equal(a.m[k], v); !eq || err != nil {
				return false, err
			}
		}
		return true, nil
	}
	return false, nil
}

// compare is <, 0 or > of numbers or of strings.
func compare(a, b any) (int, error) {
	if _, af, _, ok := number(a); ok {
		if _, bf, _, ok := number(b); ok {
			switch {
			case af < bf:
				return -1, nil
			case af > bf:
				return 1, nil
			}
			return 0, nil
		}
	}
	if s, ok := a.(string); ok {
		if t, ok := b.(string); ok {
			return strings.Compare(s, t), nil
		}
	}
	return 0, fmt.Errorf("%s and %s cannot be compared", typeName(a), typeName(b))
}

// items lists what a loop goes over: elements, keys, characters.
func (r *run) items(v any) ([]any, error) {
	switch v := v.(type) {
	case []any:
		return v, nil
	case undefined:
		return nil, nil
	case *Dict:
		out := make([]any, len(v.keys))
		for i, k := range v.keys {
			out[i] = k
		}
		return out, nil
	case string:
		n := utf8.RuneCountInString(v)
		if err := r.charge(16 * n); err != nil {
			return nil, err
		}
		out := make([]any, 0, n)
		for _, c := range v {
			out = append(out, string(c))
		}
		return out, nil
	}
	return nil, fmt.Errorf("%s is not iterable", typeName(v))
}

// length is len().
func length(v any) (int, error) {
	switch v := v.(type) {
	case string:
		return utf8.RuneCountInString(v), nil
	case []any:
		return len(v), nil
	case *Dict:
		return len(v.keys), nil
	case undefined:
		return 0, nil
	}
	return 0, fmt.Errorf("%s has no length", typeName(v))
}
