package jinja

import (
	"fmt"
	"strings"
)

// parser reads tokens by recursive descent, with the precedences of Jinja2.
type parser struct {
	toks  []tok
	pos   int
	depth int
}

func (p *parser) peek() tok { return p.toks[p.pos] }

func (p *parser) next() tok {
	t := p.toks[p.pos]
	if t.kind != tokEOF {
		p.pos++
	}
	return t
}

func (p *parser) errorf(format string, args ...any) error {
	return &lineError{p.peek().line, fmt.Errorf(format, args...)}
}

// op takes an operator if it is next.
func (p *parser) op(text string) bool { return p.take(tokOp, text) }

// word takes a keyword if it is next.
func (p *parser) word(text string) bool { return p.take(tokName, text) }

func (p *parser) take(k tokKind, text string) bool {
	if t := p.peek(); t.kind == k && t.text == text {
		p.pos++
		return true
	}
	return false
}

func (p *parser) expect(text string) error {
	if !p.op(text) {
		return p.errorf("want %q, got %s", text, p.peek())
	}
	return nil
}

func (p *parser) name() (string, error) {
	if t := p.peek(); t.kind == tokName {
		p.pos++
		return t.text, nil
	}
	return "", p.errorf("want a name, got %s", p.peek())
}

// end takes the end of a tag.
func (p *parser) end(k tokKind) error {
	if p.peek().kind != k {
		return p.errorf("unexpected %s in a tag", p.peek())
	}
	p.pos++
	return nil
}

// String shows a token in messages.
func (t tok) String() string {
	switch t.kind {
	case tokEOF:
		return "the end of the template"
	case tokVarEnd, tokBlockEnd:
		return "the end of the tag"
	case tokString:
		return fmt.Sprintf("%.40q", t.text)
	}
	return fmt.Sprintf("%.40s", t.text)
}

// enter bounds recursion; leave undoes it.
func (p *parser) enter() error {
	if p.depth++; p.depth > 2*maxDepth {
		return p.errorf("nested too deeply")
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

// block reads statements up to a tag whose name is one of ends, which it takes with its name, or to the end of the
// template if there are none.
func (p *parser) block(ends ...string) (body []stmt, end string, err error) {
	if err := p.enter(); err != nil {
		return nil, "", err
	}
	defer p.leave()
	for {
		t := p.next()
		switch t.kind {
		case tokEOF:
			if len(ends) > 0 {
				return nil, "", p.errorf("the template ends without %s", strings.Join(ends, " or "))
			}
			return body, "", nil
		case tokText:
			body = append(body, textStmt(t.text))
		case tokVar:
			e, err := p.expr()
			if err != nil {
				return nil, "", err
			}
			if err := p.end(tokVarEnd); err != nil {
				return nil, "", err
			}
			body = append(body, &outStmt{e, t.line})
		case tokBlock:
			name, err := p.name()
			if err != nil {
				return nil, "", err
			}
			for _, e := range ends {
				if e == name {
					return body, name, nil
				}
			}
			s, err := p.statement(name, t.line)
			if err != nil {
				return nil, "", err
			}
			body = append(body, s)
		default:
			return nil, "", p.errorf("unexpected %s", t)
		}
	}
}

func (p *parser) statement(name string, line int) (stmt, error) {
	switch name {
	case "if":
		return p.ifStmt(line)
	case "for":
		return p.forStmt(line)
	case "set":
		return p.setStmt(line)
	case "macro":
		return p.macroStmt()
	case "generation":
		return p.generation()
	case "with":
		return p.withStmt(line)
	case "do":
		e, err := p.expr()
		if err != nil {
			return nil, err
		}
		return &doStmt{e, line}, p.end(tokBlockEnd)
	case "break":
		return jump{errBreak}, p.end(tokBlockEnd)
	case "continue":
		return jump{errContinue}, p.end(tokBlockEnd)
	}
	return nil, &lineError{line, fmt.Errorf("tag %.40q is not supported in chat templates", name)}
}

func (p *parser) ifStmt(line int) (stmt, error) {
	s := &ifStmt{line: line}
	for {
		cond, err := p.expr()
		if err != nil {
			return nil, err
		}
		if err := p.end(tokBlockEnd); err != nil {
			return nil, err
		}
		body, end, err := p.block("elif", "else", "endif")
		if err != nil {
			return nil, err
		}
		s.conds, s.bodies = append(s.conds, cond), append(s.bodies, body)
		if end == "elif" {
			continue
		}
		if end == "else" {
			if err := p.end(tokBlockEnd); err != nil {
				return nil, err
			}
			if s.otherwise, _, err = p.block("endif"); err != nil {
				return nil, err
			}
		}
		return s, p.end(tokBlockEnd)
	}
}

func (p *parser) forStmt(line int) (stmt, error) {
	s := &forStmt{line: line}
	var err error
	if s.names, err = p.targets(); err != nil {
		return nil, err
	}
	if !p.word("in") {
		return nil, p.errorf("want in, got %s", p.peek())
	}
	if s.in, err = p.or(); err != nil { // without the inline if: an if here filters
		return nil, err
	}
	if p.word("if") {
		if s.cond, err = p.expr(); err != nil {
			return nil, err
		}
	}
	if p.word("recursive") {
		return nil, p.errorf("recursive loops are not supported")
	}
	if err := p.end(tokBlockEnd); err != nil {
		return nil, err
	}
	body, end, err := p.block("else", "endfor")
	if err != nil {
		return nil, err
	}
	s.body = body
	if end == "else" {
		if err := p.end(tokBlockEnd); err != nil {
			return nil, err
		}
		if s.otherwise, _, err = p.block("endfor"); err != nil {
			return nil, err
		}
	}
	return s, p.end(tokBlockEnd)
}

// targets reads a, b, c or (a, b, c).
func (p *parser) targets() ([]string, error) {
	brackets := p.op("(")
	var out []string
	for {
		n, err := p.name()
		if err != nil {
			return nil, err
		}
		out = append(out, n)
		if !p.op(",") {
			break
		}
	}
	if brackets {
		return out, p.expect(")")
	}
	return out, nil
}

func (p *parser) setStmt(line int) (stmt, error) {
	s := &setStmt{line: line}
	var err error
	if s.names, err = p.targets(); err != nil {
		return nil, err
	}
	if len(s.names) == 1 && p.op(".") {
		if s.attr, err = p.name(); err != nil {
			return nil, err
		}
	}
	if p.op("=") {
		if s.value, err = p.tuple(); err != nil {
			return nil, err
		}
		return s, p.end(tokBlockEnd)
	}
	if err := p.end(tokBlockEnd); err != nil {
		return nil, err
	}
	if s.body, _, err = p.block("endset"); err != nil {
		return nil, err
	}
	return s, p.end(tokBlockEnd)
}

func (p *parser) withStmt(line int) (stmt, error) {
	s := &withStmt{line: line}
	for p.peek().kind == tokName {
		n, err := p.name()
		if err != nil {
			return nil, err
		}
		if err := p.expect("="); err != nil {
			return nil, err
		}
		e, err := p.expr()
		if err != nil {
			return nil, err
		}
		s.names, s.values = append(s.names, n), append(s.values, e)
		if !p.op(",") {
			break
		}
	}
	if err := p.end(tokBlockEnd); err != nil {
		return nil, err
	}
	var err error
	if s.body, _, err = p.block("endwith"); err != nil {
		return nil, err
	}
	return s, p.end(tokBlockEnd)
}

func (p *parser) macroStmt() (stmt, error) {
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	m := &macro{name: name}
	if err := p.expect("("); err != nil {
		return nil, err
	}
	for !p.op(")") {
		n, err := p.name()
		if err != nil {
			return nil, err
		}
		var def expr
		if p.op("=") {
			if def, err = p.expr(); err != nil {
				return nil, err
			}
		}
		m.params, m.defaults = append(m.params, n), append(m.defaults, def)
		if !p.op(",") && p.peek().text != ")" {
			return nil, p.errorf("want , or ) in a macro, got %s", p.peek())
		}
	}
	if err := p.end(tokBlockEnd); err != nil {
		return nil, err
	}
	if m.body, _, err = p.block("endmacro"); err != nil {
		return nil, err
	}
	return &macroStmt{m}, p.end(tokBlockEnd)
}

func (p *parser) generation() (stmt, error) {
	if err := p.end(tokBlockEnd); err != nil {
		return nil, err
	}
	body, _, err := p.block("endgeneration")
	if err != nil {
		return nil, err
	}
	return &generationStmt{body}, p.end(tokBlockEnd)
}
