package jinja

import (
	"errors"
	"fmt"
	"strings"
)

type attrExpr struct {
	e    expr
	name string
	line int
}

func (e *attrExpr) eval(r *run) (any, error) {
	v, err := r.eval(e.e)
	if err != nil {
		return nil, err
	}
	if err := r.look(v); err != nil { // a method is going to be called
		return nil, at(e.line, err)
	}
	out, err := attr(v, e.name)
	return out, at(e.line, err)
}

// attr is v.name: a method, or the key of a mapping.
func attr(v any, name string) (any, error) {
	switch v := v.(type) {
	case namespace:
		if x, ok := v.Get(name); ok {
			return x, nil
		}
		return undefined{name}, nil
	case *loop:
		if x, ok := v.attr(name); ok {
			return x, nil
		}
		return undefined{"loop." + name}, nil
	case undefined:
		return nil, fmt.Errorf("%.60s is not there, so it has no %.60s", v.name, name)
	}
	if f, ok := method(v, name); ok {
		return f, nil
	}
	if d, ok := v.(*Dict); ok {
		if x, ok := d.Get(name); ok {
			return x, nil
		}
	}
	return undefined{name}, nil
}

type indexExpr struct {
	e, i expr
	line int
}

func (e *indexExpr) eval(r *run) (any, error) {
	v, err := r.eval(e.e)
	if err != nil {
		return nil, err
	}
	i, err := r.eval(e.i)
	if err != nil {
		return nil, err
	}
	out, err := r.index(v, i)
	return out, at(e.line, err)
}

func (r *run) index(v, i any) (any, error) {
	if s, ok := i.(string); ok {
		switch v := v.(type) {
		case *Dict:
			if x, ok := v.Get(s); ok {
				return x, nil
			}
		}
		return attr(v, s)
	}
	n, _, isInt, ok := number(i)
	if !ok || !isInt {
		return nil, fmt.Errorf("an index of type %s", typeName(i))
	}
	switch v := v.(type) {
	case []any:
		if k, ok := place(n, len(v)); ok {
			return v[k], nil
		}
	case string:
		items, err := r.items(v)
		if err != nil {
			return nil, err
		}
		if k, ok := place(n, len(items)); ok {
			return items[k], nil
		}
	case undefined:
		return nil, fmt.Errorf("%.60s is not there, so it has no element %d", v.name, n)
	}
	return undefined{fmt.Sprintf("element %d", n)}, nil
}

// place turns an index, which may count from the end, into an offset.
func place(i int64, n int) (int, bool) {
	if i < 0 {
		i += int64(n)
	}
	return int(i), i >= 0 && i < int64(n)
}

type sliceExpr struct {
	e     expr
	parts [3]expr // from, to, step; nil: left out
	line  int
}

func (e *sliceExpr) eval(r *run) (any, error) {
	v, err := r.eval(e.e)
	if err != nil {
		return nil, err
	}
	var at3 [3]*int64
	for i, p := range e.parts {
		if p == nil {
			continue
		}
		x, err := r.eval(p)
		if err != nil {
			return nil, err
		}
		if x == nil {
			continue
		}
		n, _, isInt, ok := number(x)
		if !ok || !isInt {
			return nil, at(e.line, fmt.Errorf("a slice bound of type %s", typeName(x)))
		}
		at3[i] = &n
	}
	items, err := r.items(v)
	if err != nil {
		return nil, at(e.line, err)
	}
	if err := r.charge(16 * len(items)); err != nil {
		return nil, err
	}
	out, err := slice(items, at3)
	if err != nil {
		return nil, at(e.line, err)
	}
	if _, ok := v.(string); ok {
		return joinStrings(out), nil
	}
	return out, nil
}

func joinStrings(items []any) string {
	var b strings.Builder
	for _, x := range items {
		b.WriteString(x.(string))
	}
	return b.String()
}

// slice is Python's items[from:to:step].
func slice(items []any, at [3]*int64) ([]any, error) {
	step, n := int64(1), int64(len(items))
	if at[2] != nil {
		step = *at[2]
	}
	if step == 0 {
		return nil, errors.New("a slice step of zero")
	}
	from, to := int64(0), n
	if step < 0 {
		from, to = n-1, -1
	}
	clamp := func(p *int64, def int64) int64 {
		if p == nil {
			return def
		}
		i := *p
		if i < 0 {
			i = max(i+n, -1)
		}
		if step > 0 {
			return min(max(i, 0), n)
		}
		return min(i, n-1)
	}
	from, to = clamp(at[0], from), clamp(at[1], to)
	out := []any{}
	for i := from; step > 0 && i < to || step < 0 && i > to; {
		out = append(out, items[i])
		if step > n || step < -n {
			break
		}
		i += step
	}
	return out, nil
}
