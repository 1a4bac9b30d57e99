package jinja

import (
	"fmt"
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
