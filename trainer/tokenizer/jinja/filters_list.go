package jinja

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

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

// itemsIfAny is items, except that what is false (none, say) has no elements.
func (r *run) itemsIfAny(v any) ([]any, error) {
	if !truth(v) {
		return nil, nil
	}
	return r.items(v)
}

// filterMap is map(attribute="a.b", default=…) or map("filter", arguments…).
func filterMap(r *run, a args) (any, error) {
	items, err := r.itemsIfAny(a.pos[0])
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
		items, err := r.itemsIfAny(a.pos[0])
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
