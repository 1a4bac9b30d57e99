package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// expr is an expression.
type expr interface {
	eval(r *run) (any, error)
}

func (r *run) eval(e expr) (any, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.leave()
	return e.eval(r)
}

// look charges for looking through the strings among vs.
func (r *run) look(vs ...any) error {
	for _, v := range vs {
		if s, ok := v.(string); ok {
			if err := r.charge(len(s)); err != nil {
				return err
			}
		}
	}
	return nil
}

type constExpr struct{ v any }

func (e *constExpr) eval(*run) (any, error) { return e.v, nil }

type nameExpr struct{ name string }

func (e *nameExpr) eval(r *run) (any, error) {
	if v, ok := r.scope.get(e.name); ok {
		return v, nil
	}
	return undefined{e.name}, nil
}

type listExpr struct{ items []expr }

func (e *listExpr) eval(r *run) (any, error) {
	out := make([]any, len(e.items))
	for i, x := range e.items {
		v, err := r.eval(x)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

type dictExpr struct {
	keys, values []expr
	line         int
}

func (e *dictExpr) eval(r *run) (any, error) {
	d := NewDict()
	for i := range e.keys {
		k, err := r.eval(e.keys[i])
		if err != nil {
			return nil, err
		}
		s, ok := k.(string)
		if !ok {
			return nil, at(e.line, fmt.Errorf("a key of type %s; keys are strings here", typeName(k)))
		}
		v, err := r.eval(e.values[i])
		if err != nil {
			return nil, err
		}
		d.Set(s, v)
	}
	return d, nil
}

type condExpr struct{ cond, yes, no expr }

func (e *condExpr) eval(r *run) (any, error) {
	c, err := r.eval(e.cond)
	switch {
	case err != nil:
		return nil, err
	case truth(c):
		return r.eval(e.yes)
	case e.no != nil:
		return r.eval(e.no)
	}
	return undefined{"the value of an inline if without else"}, nil
}

type logicExpr struct {
	or   bool
	l, r expr
}

func (e *logicExpr) eval(r *run) (any, error) {
	v, err := r.eval(e.l)
	if err != nil || truth(v) == e.or {
		return v, err
	}
	return r.eval(e.r)
}

type notExpr struct{ e expr }

func (e *notExpr) eval(r *run) (any, error) {
	v, err := r.eval(e.e)
	return !truth(v), err
}

type compareExpr struct {
	first expr
	ops   []string
	rest  []expr
	line  int
}

func (e *compareExpr) eval(r *run) (any, error) {
	l, err := r.eval(e.first)
	if err != nil {
		return nil, err
	}
	for i, op := range e.ops {
		v, err := r.eval(e.rest[i])
		if err != nil {
			return nil, err
		}
		ok, err := r.compare(op, l, v)
		if err != nil {
			return nil, at(e.line, err)
		}
		if !ok {
			return false, nil
		}
		l = v
	}
	return true, nil
}

func (r *run) compare(op string, a, b any) (bool, error) {
	if err := r.look(a); err != nil {
		return false, err
	}
	switch op {
	case "==":
		return r.equal(a, b)
	case "!=":
		eq, err := r.equal(a, b)
		return !eq, err
	case "in":
		return r.contains(b, a)
	case "not in":
		in, err := r.contains(b, a)
		return !in, err
	}
	c, err := compare(a, b)
	switch op {
	case "<":
		return c < 0, err
	case "<=":
		return c <= 0, err
	case ">":
		return c > 0, err
	}
	return c >= 0, err
}

func (r *run) contains(in, v any) (bool, error) {
	switch in := in.(type) {
	case string:
		s, ok := v.(string)
		if !ok {
			return false, fmt.Errorf("%s in a string", typeName(v))
		}
		return strings.Contains(in, s), r.charge(len(in))
	case []any:
		for _, x := range in {
			if eq, err := r.equal(x, v); eq || err != nil {
				return eq, err
			}
		}
		return false, nil
	case *Dict:
		s, ok := v.(string)
		if !ok {
			return false, nil
		}
		_, ok = in.Get(s)
		return ok, nil
	case undefined:
		return false, nil
	}
	return false, fmt.Errorf("%s cannot contain anything", typeName(in))
}

type binaryExpr struct {
	op   string
	l, r expr
	line int
}

func (e *binaryExpr) eval(r *run) (any, error) {
	a, err := r.eval(e.l)
	if err != nil {
		return nil, err
	}
	b, err := r.eval(e.r)
	if err != nil {
		return nil, err
	}
	v, err := r.binary(e.op, a, b)
	return v, at(e.line, err)
}

func (r *run) binary(op string, a, b any) (any, error) {
	if op == "~" {
		return r.concat(a, b)
	}
	if ai, af, aInt, ok := number(a); ok {
		if bi, bf, bInt, ok := number(b); ok {
			if aInt && bInt {
				return intOp(op, ai, bi)
			}
			return floatOp(op, af, bf)
		}
	}
	switch a := a.(type) {
	case string:
		if b, ok := b.(string); ok && op == "+" {
			return a + b, r.charge(len(a) + len(b))
		}
		if n, ok := b.(int64); ok && op == "*" {
			return r.repeat(a, n)
		}
	case []any:
		if b, ok := b.([]any); ok && op == "+" {
			if err := r.charge(16 * (len(a) + len(b))); err != nil {
				return nil, err
			}
			return append(append(make([]any, 0, len(a)+len(b)), a...), b...), nil
		}
	case int64:
		if s, ok := b.(string); ok && op == "*" {
			return r.repeat(s, a)
		}
	}
	return nil, fmt.Errorf("%s %s %s does not work%s", typeName(a), op, typeName(b), whichUndefined(a, b))
}

func whichUndefined(vs ...any) string {
	for _, v := range vs {
		if u, ok := v.(undefined); ok {
			return fmt.Sprintf(": %.60s is not there", u.name)
		}
	}
	return ""
}

func (r *run) concat(a, b any) (any, error) {
	s, err := r.str(a)
	if err != nil {
		return nil, err
	}
	t, err := r.str(b)
	if err != nil {
		return nil, err
	}
	if err := r.charge(len(s) + len(t)); err != nil {
		return nil, err
	}
	return s + t, nil
}

func (r *run) repeat(s string, n int64) (any, error) {
	if n <= 0 || s == "" {
		return "", nil
	}
	if n > MaxOutput {
		return nil, errBytes
	}
	if err := r.charge(len(s) * int(n)); err != nil {
		return nil, err
	}
	return strings.Repeat(s, int(n)), nil
}

var (
	errZero  = errors.New("division by zero")
	errLarge = errors.New("an integer is too large")
)

func intOp(op string, a, b int64) (any, error) {
	switch op {
	case "+":
		c := a + b
		return c, overflowed((c > a) == (b > 0) || b == 0)
	case "-":
		c := a - b
		return c, overflowed((c < a) == (b > 0) || b == 0)
	case "*":
		return mul(a, b)
	case "**":
		return pow(a, b)
	}
	if b == 0 {
		return nil, errZero
	}
	switch op {
	case "/":
		return float64(a) / float64(b), nil
	case "//":
		q := a / b
		if a%b != 0 && (a < 0) != (b < 0) {
			q-- // Python rounds down
		}
		return q, nil
	}
	m := a % b
	if m != 0 && (m < 0) != (b < 0) {
		m += b
	}
	return m, nil
}

func overflowed(fits bool) error {
	if !fits {
		return errLarge
	}
	return nil
}

func mul(a, b int64) (any, error) {
	hi, lo := bits.Mul64(magnitude(a), magnitude(b))
	if hi != 0 || lo > math.MaxInt64 {
		return nil, errLarge
	}
	return a * b, nil
}

func magnitude(a int64) uint64 {
	if a < 0 {
		return -uint64(a)
	}
	return uint64(a)
}

func pow(a, b int64) (any, error) {
	if b < 0 {
		return math.Pow(float64(a), float64(b)), nil
	}
	if b > 64 && magnitude(a) > 1 {
		return nil, errLarge
	}
	out := any(int64(1))
	for range b % 128 { // above 64 only -1, 0 and 1 are left, for which b's parity counts
		var err error
		if out, err = mul(out.(int64), a); err != nil {
			return nil, err
		}
	}
	if b > 0 && b%128 == 0 {
		return a * a, nil
	}
	return out, nil
}

func floatOp(op string, a, b float64) (any, error) {
	switch op {
	case "+":
		return a + b, nil
	case "-":
		return a - b, nil
	case "*":
		return a * b, nil
	case "**":
		return math.Pow(a, b), nil
	}
	if b == 0 {
		return nil, errZero
	}
	switch op {
	case "/":
		return a / b, nil
	case "//":
		return math.Floor(a / b), nil
	}
	m := math.Mod(a, b)
	if m != 0 && (m < 0) != (b < 0) {
		m += b
	}
	return m, nil
}

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

type callArgs struct {
	values []expr
	spread []bool   // *value: its elements are arguments
	names  []string // of the last ones
}

func (a callArgs) eval(r *run) (args, error) {
	out := args{kw: NewDict()}
	for i, e := range a.values {
		v, err := r.eval(e)
		if err != nil {
			return args{}, err
		}
		if k := i - (len(a.values) - len(a.names)); k >= 0 {
			out.kw.Set(a.names[k], v)
		} else if a.spread[i] {
			items, err := r.items(v)
			if err != nil {
				return args{}, err
			}
			if err := r.charge(16 * len(items)); err != nil {
				return args{}, err
			}
			out.pos = append(out.pos, items...)
		} else {
			out.pos = append(out.pos, v)
		}
	}
	return out, nil
}

type callExpr struct {
	f    expr
	args callArgs
	line int
}

func (e *callExpr) eval(r *run) (any, error) {
	f, err := r.eval(e.f)
	if err != nil {
		return nil, err
	}
	a, err := e.args.eval(r)
	if err != nil {
		return nil, err
	}
	switch f := f.(type) {
	case function:
		v, err := f(r, a)
		return v, at(e.line, err)
	case *boundMacro:
		v, err := f.call(r, a)
		return v, at(e.line, err)
	case undefined:
		return nil, at(e.line, fmt.Errorf("%.60s is not there and cannot be called", f.name))
	}
	return nil, at(e.line, fmt.Errorf("%s cannot be called", typeName(f)))
}

// filterExpr is a filter, or a test, whose result is a bool. Both get the value as their first argument.
type filterExpr struct {
	f     function
	value expr
	args  callArgs
	line  int
}

func (e *filterExpr) eval(r *run) (any, error) {
	v, err := r.eval(e.value)
	if err != nil {
		return nil, err
	}
	a, err := e.args.eval(r)
	if err != nil {
		return nil, err
	}
	a.pos = append([]any{v}, a.pos...)
	if err := r.look(a.pos...); err != nil {
		return nil, at(e.line, err)
	}
	out, err := e.f(r, a)
	return out, at(e.line, err)
}
