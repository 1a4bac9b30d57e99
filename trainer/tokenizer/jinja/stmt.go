package jinja

import (
	"errors"
	"fmt"
)

// stmt is what a template is made of.
type stmt interface {
	exec(r *run) error
}

var (
	errBreak    = errors.New("break")
	errContinue = errors.New("continue")
)

type textStmt string

func (s textStmt) exec(r *run) error { return r.write(string(s)) }

type outStmt struct {
	e    expr
	line int
}

func (s *outStmt) exec(r *run) error {
	v, err := r.eval(s.e)
	if err != nil {
		return at(s.line, err)
	}
	text, err := r.str(v)
	if err != nil {
		return at(s.line, err)
	}
	return at(s.line, r.write(text))
}

type doStmt struct {
	e    expr
	line int
}

func (s *doStmt) exec(r *run) error {
	_, err := r.eval(s.e)
	return at(s.line, err)
}

type jump struct{ err error }

func (s jump) exec(*run) error { return s.err }

type ifStmt struct {
	conds     []expr
	bodies    [][]stmt
	otherwise []stmt
	line      int
}

func (s *ifStmt) exec(r *run) error {
	for i, c := range s.conds {
		v, err := r.eval(c)
		if err != nil {
			return at(s.line, err)
		}
		if truth(v) {
			return r.all(s.bodies[i])
		}
	}
	return r.all(s.otherwise)
}

type forStmt struct {
	names     []string
	in, cond  expr
	body      []stmt
	otherwise []stmt
	line      int
}

// loop is the variable loop of a body.
type loop struct {
	index int // from 0
	items []any
}

func (s *forStmt) exec(r *run) error {
	outer := r.scope
	defer func() { r.scope = outer }()
	items, err := s.items(r)
	if err != nil {
		return at(s.line, err)
	}
	if len(items) == 0 {
		return r.all(s.otherwise)
	}
	for i, v := range items {
		if err := r.step(); err != nil {
			return err
		}
		r.scope = &scope{vars: map[string]any{"loop": &loop{i, items}}, up: outer}
		if err := s.bind(r, v); err != nil {
			return at(s.line, err)
		}
		err := r.all(s.body)
		if errors.Is(err, errBreak) {
			return nil
		}
		if err != nil && !errors.Is(err, errContinue) {
			return err
		}
	}
	return nil
}

// items lists what the loop goes over, filtered.
func (s *forStmt) items(r *run) ([]any, error) {
	v, err := r.eval(s.in)
	if err != nil {
		return nil, err
	}
	items, err := r.items(v)
	if err != nil || s.cond == nil {
		return items, err
	}
	outer := r.scope
	defer func() { r.scope = outer }()
	var out []any
	for _, v := range items {
		r.scope = &scope{vars: map[string]any{}, up: outer}
		if err := s.bind(r, v); err != nil {
			return nil, err
		}
		keep, err := r.eval(s.cond)
		if err != nil {
			return nil, err
		}
		if truth(keep) {
			out = append(out, v)
		}
	}
	return out, nil
}

func (s *forStmt) bind(r *run, v any) error { return r.bind(s.names, v) }

// bind sets names to v, or to its elements if there are several.
func (r *run) bind(names []string, v any) error {
	if len(names) == 1 {
		r.scope.vars[names[0]] = v
		return nil
	}
	items, err := r.items(v)
	if err != nil {
		return err
	}
	if len(items) != len(names) {
		return fmt.Errorf("%d values for %d names", len(items), len(names))
	}
	for i, n := range names {
		r.scope.vars[n] = items[i]
	}
	return nil
}

func (l *loop) attr(name string) (any, bool) {
	n := len(l.items)
	switch name {
	case "index":
		return int64(l.index + 1), true
	case "index0":
		return int64(l.index), true
	case "revindex":
		return int64(n - l.index), true
	case "revindex0":
		return int64(n - l.index - 1), true
	case "first":
		return l.index == 0, true
	case "last":
		return l.index == n-1, true
	case "length":
		return int64(n), true
	case "depth":
		return int64(1), true // of recursion, which is not supported
	case "depth0":
		return int64(0), true
	case "previtem":
		if l.index > 0 {
			return l.items[l.index-1], true
		}
	case "nextitem":
		if l.index+1 < n {
			return l.items[l.index+1], true
		}
	case "cycle":
		return function(func(_ *run, a args) (any, error) {
			if len(a.pos) == 0 {
				return nil, errors.New("loop.cycle without arguments")
			}
			return a.pos[l.index%len(a.pos)], nil
		}), true
	}
	return nil, false
}

type setStmt struct {
	names []string
	attr  string // of a namespace
	value expr   // nil: body
	body  []stmt
	line  int
}

func (s *setStmt) exec(r *run) error {
	v, err := s.eval(r)
	if err != nil {
		return at(s.line, err)
	}
	if s.attr == "" {
		return at(s.line, r.bind(s.names, v))
	}
	target, _ := r.scope.get(s.names[0])
	ns, ok := target.(namespace)
	if !ok {
		return at(s.line, fmt.Errorf("%.40s is not a namespace, its attributes cannot be set", s.names[0]))
	}
	ns.Set(s.attr, v)
	return nil
}

func (s *setStmt) eval(r *run) (any, error) {
	if s.value == nil {
		return r.captured(s.body)
	}
	return r.eval(s.value)
}

type withStmt struct {
	names  []string
	values []expr
	body   []stmt
	line   int
}

func (s *withStmt) exec(r *run) error {
	outer := r.scope
	defer func() { r.scope = outer }()
	inner := &scope{vars: map[string]any{}, up: outer}
	for i, n := range s.names {
		v, err := r.eval(s.values[i])
		if err != nil {
			return at(s.line, err)
		}
		inner.vars[n] = v
	}
	r.scope = inner
	return r.all(s.body)
}

type macroStmt struct{ m *macro }

func (s *macroStmt) exec(r *run) error {
	r.scope.vars[s.m.name] = &boundMacro{s.m, r.scope}
	return nil
}

type macro struct {
	name     string
	params   []string
	defaults []expr
	body     []stmt
}

// boundMacro is a macro with the scope it was defined in.
type boundMacro struct {
	*macro
	scope *scope
}

func (m *boundMacro) call(r *run, a args) (any, error) {
	if r.calls++; r.calls > maxDepth {
		return nil, errors.New("macros call each other too deeply")
	}
	outer := r.scope
	defer func() { r.scope, r.calls = outer, r.calls-1 }()
	if len(a.pos) > len(m.params) {
		return nil, fmt.Errorf("macro %.40s takes %d arguments", m.name, len(m.params))
	}
	r.scope = &scope{vars: map[string]any{}, up: m.scope}
	for i, n := range m.params {
		v := a.get(i, n, undefined{n})
		if _, missing := v.(undefined); missing && m.defaults[i] != nil {
			var err error
			if v, err = r.eval(m.defaults[i]); err != nil {
				return nil, err
			}
		}
		r.scope.vars[n] = v
	}
	return r.captured(m.body)
}

// generationStmt marks what an assistant says. Inside a macro or a block set its place in the output is not known yet,
// so it marks nothing there.
type generationStmt struct{ body []stmt }

func (s *generationStmt) exec(r *run) error {
	lo := r.out.Len()
	err := r.all(s.body)
	if r.capture == nil && r.out.Len() > lo {
		r.spans = append(r.spans, Span{lo, r.out.Len()})
	}
	return err
}
