// Package jinja renders the part of Jinja2 that chat templates use: expressions, filters, tests, if, for, set, macro,
// break and continue, generation; set up as Hugging Face transformers does (trim_blocks, lstrip_blocks, no autoescape,
// nothing that changes its arguments).
//
// Templates come with models, from strangers, and are data: there is no way from a template to files, the clock or the
// host program, and every rendering has a budget of steps, bytes and nesting, after which it ends with an error. Values
// keep the order of their JSON, so that tojson writes what it was given.
//
// A Template is immutable and safe for concurrent use.
package jinja

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of a rendering. Chat templates need a hundredth of them for a hundred messages.
const (
	MaxSource = 1 << 20   // bytes of a template
	MaxOutput = 32 << 20  // bytes of a result, and of any string on the way
	maxSteps  = 2 << 20   // evaluations of an expression or statement
	maxBytes  = 256 << 20 // bytes copied
	maxDepth  = 100       // nested brackets, blocks, values or macro calls, each counted apart
	maxNested = 5000      // evaluations inside of each other, which bounds the stack
)

// Template is a parsed template.
type Template struct {
	body []stmt
}

// Span is a half-open range of bytes in the output.
type Span struct {
	Lo, Hi int
}

// Parse reads a template.
func Parse(source string) (*Template, error) {
	if len(source) > MaxSource {
		return nil, fmt.Errorf("template of %d bytes; at most %d", len(source), MaxSource)
	}
	toks, err := lex(source)
	if err != nil {
		return nil, err
	}
	p := &parser{toks: toks}
	body, _, err := p.block()
	if err != nil {
		return nil, err
	}
	return &Template{body}, nil
}

// Execute renders the template with variables vars. spans are the parts of the output that {% generation %} blocks made.
// Values are what FromJSON makes: nil, bool, int64, float64, string, []any and *Dict.
func (t *Template) Execute(vars map[string]any) (out string, spans []Span, err error) {
	r := &run{scope: &scope{vars: map[string]any{}}}
	for name, f := range globals() {
		r.scope.vars[name] = f
	}
	r.scope = &scope{vars: map[string]any{}, up: r.scope}
	for name, v := range vars {
		r.scope.vars[name] = v
	}
	if err := r.all(t.body); err != nil {
		if errors.Is(err, errBreak) || errors.Is(err, errContinue) {
			err = errors.New("break or continue outside of a loop")
		}
		return "", nil, err
	}
	return r.out.String(), r.spans, nil
}

// run is the state of one rendering.
type run struct {
	out     strings.Builder
	capture *strings.Builder // where output goes inside a macro or a block set; nil: out
	scope   *scope
	spans   []Span
	steps   int
	bytes   int
	calls   int // macro calls under way
	nested  int // evaluations under way
}

// scope holds the variables of a loop body, a macro or the whole template.
type scope struct {
	vars map[string]any
	up   *scope
}

func (s *scope) get(name string) (any, bool) {
	for ; s != nil; s = s.up {
		if v, ok := s.vars[name]; ok {
			return v, true
		}
	}
	return nil, false
}

var (
	errSteps = errors.New("the template takes too many steps")
	errBytes = errors.New("the template makes too much text")
	errDeep  = errors.New("the template nests too deeply")
)

// step counts one evaluation.
func (r *run) step() error {
	if r.steps++; r.steps > maxSteps {
		return errSteps
	}
	return nil
}

// enter counts one evaluation inside of another; leave ends it.
func (r *run) enter() error {
	if r.nested++; r.nested > maxNested {
		return errDeep
	}
	return r.step()
}

func (r *run) leave() { r.nested-- }

// charge counts n bytes that are about to be made or looked through.
func (r *run) charge(n int) error {
	if n < 0 || n > MaxOutput {
		return errBytes
	}
	if r.bytes += n; r.bytes > maxBytes {
		return errBytes
	}
	return nil
}

func (r *run) write(s string) error {
	if err := r.charge(len(s)); err != nil {
		return err
	}
	b := r.capture
	if b == nil {
		b = &r.out
	}
	if b.Len()+len(s) > MaxOutput {
		return errBytes
	}
	b.WriteString(s)
	return nil
}

// captured runs body and returns what it wrote.
func (r *run) captured(body []stmt) (string, error) {
	var b strings.Builder
	was := r.capture
	r.capture = &b
	err := r.all(body)
	r.capture = was
	return b.String(), err
}

func (r *run) all(body []stmt) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	for _, s := range body {
		if err := r.step(); err != nil {
			return err
		}
		if err := s.exec(r); err != nil {
			return err
		}
	}
	return nil
}

// at adds the line to an error that has none yet.
func at(line int, err error) error {
	var l *lineError
	if err == nil || errors.As(err, &l) || errors.Is(err, errBreak) || errors.Is(err, errContinue) {
		return err
	}
	return &lineError{line, err}
}

type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("template line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }
