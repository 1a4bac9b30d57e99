package jinja

import (
	"errors"
	"fmt"
	"strconv"
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

// tuple reads a, b as a list, or one expression.
func (p *parser) tuple() (expr, error) {
	e, err := p.expr()
	if err != nil || p.peek().kind != tokOp || p.peek().text != "," {
		return e, err
	}
	l := &listExpr{[]expr{e}}
	for p.op(",") {
		if k := p.peek().kind; k == tokBlockEnd || k == tokVarEnd || p.peek().text == ")" {
			break
		}
		if e, err = p.expr(); err != nil {
			return nil, err
		}
		l.items = append(l.items, e)
	}
	return l, nil
}

// expr reads an expression with its inline if.
func (p *parser) expr() (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	e, err := p.or()
	if err != nil {
		return nil, err
	}
	for p.word("if") {
		c := &condExpr{yes: e}
		if c.cond, err = p.or(); err != nil {
			return nil, err
		}
		if p.word("else") {
			if c.no, err = p.expr(); err != nil {
				return nil, err
			}
		}
		e = c
	}
	return e, nil
}

// left reads operands of one level and joins them to the left. Long chains are no deeper for it, but each is a level
// of evaluation: chains counts them.
func (p *parser) left(operand func() (expr, error), join func(l expr, op string) (func(r expr) expr, bool)) (expr, error) {
	l, err := operand()
	for n := 0; err == nil; n++ {
		made, ok := join(l, p.peek().text)
		if t := p.peek(); !ok || t.kind != tokOp && t.kind != tokName {
			return l, nil
		}
		if n > 10*maxDepth {
			return nil, p.errorf("an expression with more than %d operators", 10*maxDepth)
		}
		p.pos++
		var r expr
		if r, err = operand(); err == nil {
			l = made(r)
		}
	}
	return nil, err
}

func (p *parser) or() (expr, error) {
	return p.left(p.and, func(l expr, op string) (func(expr) expr, bool) {
		return func(r expr) expr { return &logicExpr{true, l, r} }, op == "or"
	})
}

func (p *parser) and() (expr, error) {
	return p.left(p.not, func(l expr, op string) (func(expr) expr, bool) {
		return func(r expr) expr { return &logicExpr{false, l, r} }, op == "and"
	})
}

func (p *parser) not() (expr, error) {
	if !p.word("not") {
		return p.compare()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	e, err := p.not()
	return &notExpr{e}, err
}

// compare reads a chain of comparisons: a < b < c is a < b and b < c.
func (p *parser) compare() (expr, error) {
	first, err := p.sum()
	if err != nil {
		return nil, err
	}
	c := &compareExpr{first: first, line: p.peek().line}
	for {
		t, op := p.peek(), ""
		switch {
		case t.kind == tokOp && strings.Contains(" == != < <= > >= ", " "+t.text+" "):
			op = t.text
			p.pos++
		case p.word("in"):
			op = "in"
		case t.kind == tokName && t.text == "not" && p.toks[p.pos+1].kind == tokName && p.toks[p.pos+1].text == "in":
			op = "not in"
			p.pos += 2
		default:
			if len(c.ops) == 0 {
				return first, nil
			}
			return c, nil
		}
		e, err := p.sum()
		if err != nil {
			return nil, err
		}
		if c.ops, c.rest = append(c.ops, op), append(c.rest, e); len(c.ops) > maxDepth {
			return nil, p.errorf("too many comparisons")
		}
	}
}

func (p *parser) sum() (expr, error)    { return p.binary(p.concat, "+", "-") }
func (p *parser) concat() (expr, error) { return p.binary(p.product, "~") }
func (p *parser) power() (expr, error)  { return p.binary(p.unary, "**") }
func (p *parser) product() (expr, error) {
	return p.binary(p.power, "*", "/", "//", "%")
}

func (p *parser) binary(operand func() (expr, error), ops ...string) (expr, error) {
	return p.left(operand, func(l expr, op string) (func(expr) expr, bool) {
		line := p.peek().line
		for _, o := range ops {
			if o == op && p.peek().kind == tokOp {
				return func(r expr) expr { return &binaryExpr{op, l, r, line} }, true
			}
		}
		return nil, false
	})
}

// unary reads signs; filters and tests apply to all of it: -3|abs is 3.
func (p *parser) unary() (expr, error) {
	e, err := p.signed()
	for n := 0; err == nil; n++ {
		if n > maxDepth {
			return nil, p.errorf("too many filters in a row")
		}
		line := p.peek().line
		switch {
		case p.op("|"):
			e, err = p.filter(e, line)
		case p.word("is"):
			e, err = p.test(e, line)
		default:
			return e, nil
		}
	}
	return nil, err
}

func (p *parser) signed() (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	line := p.peek().line
	minus := p.op("-")
	if !minus && !p.op("+") {
		return p.postfix()
	}
	e, err := p.signed()
	if minus {
		e = &binaryExpr{"-", &constExpr{int64(0)}, e, line}
	}
	return e, err
}

// postfix reads a primary with the attributes, subscripts and calls behind it.
func (p *parser) postfix() (expr, error) {
	e, err := p.primary()
	for n := 0; err == nil; n++ {
		if n > maxDepth {
			return nil, p.errorf("too many accesses in a row")
		}
		line := p.peek().line
		switch {
		case p.op("."):
			e, err = p.attribute(e, line)
		case p.op("["):
			e, err = p.subscript(e, line)
		case p.op("("):
			c := &callExpr{f: e, line: line}
			c.args, err = p.args()
			e = c
		default:
			return e, nil
		}
	}
	return nil, err
}

func (p *parser) attribute(e expr, line int) (expr, error) {
	if t := p.peek(); t.kind == tokInt {
		p.pos++
		i, err := strconv.ParseInt(t.text, 10, 64)
		return &indexExpr{e, &constExpr{i}, line}, err
	}
	n, err := p.name()
	return &attrExpr{e, n, line}, err
}

func (p *parser) subscript(e expr, line int) (expr, error) {
	var parts [3]expr
	n := 0
	for i := range parts {
		if t := p.peek(); t.kind != tokOp || t.text != ":" && t.text != "]" {
			var err error
			if parts[i], err = p.expr(); err != nil {
				return nil, err
			}
		}
		n = i
		if !p.op(":") {
			break
		}
		n = i + 1
	}
	if err := p.expect("]"); err != nil {
		return nil, err
	}
	if n == 0 {
		if parts[0] == nil {
			return nil, p.errorf("a subscript is empty")
		}
		return &indexExpr{e, parts[0], line}, nil
	}
	return &sliceExpr{e, parts, line}, nil
}

// args reads the arguments of a call, after its bracket.
func (p *parser) args() (callArgs, error) {
	var a callArgs
	for !p.op(")") {
		spread := p.op("*")
		if t := p.peek(); !spread && t.kind == tokName && p.toks[p.pos+1].kind == tokOp && p.toks[p.pos+1].text == "=" {
			p.pos += 2
			a.names = append(a.names, t.text)
		} else if len(a.names) > 0 {
			return a, p.errorf("an argument without a name follows one with a name")
		}
		e, err := p.expr()
		if err != nil {
			return a, err
		}
		a.values, a.spread = append(a.values, e), append(a.spread, spread)
		if !p.op(",") && !(p.peek().kind == tokOp && p.peek().text == ")") {
			return a, p.errorf("want , or ) in a call, got %s", p.peek())
		}
	}
	return a, nil
}

func (p *parser) filter(e expr, line int) (expr, error) {
	n, err := p.name()
	if err != nil {
		return nil, err
	}
	f, ok := filters()[n]
	if !ok {
		return nil, &lineError{line, fmt.Errorf("filter %.40q is not supported", n)}
	}
	c := &filterExpr{f: f, value: e, line: line}
	if p.op("(") {
		c.args, err = p.args()
	}
	return c, err
}

func (p *parser) test(e expr, line int) (expr, error) {
	negated := p.word("not")
	n, err := p.name()
	if err != nil {
		return nil, err
	}
	f, ok := tests()[n]
	if !ok {
		return nil, &lineError{line, fmt.Errorf("test %.40q is not supported", n)}
	}
	c := &filterExpr{f: f, value: e, line: line}
	switch t := p.peek(); {
	case p.op("("):
		if c.args, err = p.args(); err != nil {
			return nil, err
		}
	case t.kind == tokString || t.kind == tokInt || t.kind == tokFloat || t.kind == tokName && !keyword(t.text):
		arg, err := p.primary() // is divisibleby 3
		if err != nil {
			return nil, err
		}
		c.args = callArgs{values: []expr{arg}, spread: []bool{false}}
	}
	if negated {
		return &notExpr{c}, nil
	}
	return c, nil
}

func keyword(s string) bool {
	return strings.Contains(" and or not if else in is recursive ", " "+s+" ")
}

func (p *parser) primary() (expr, error) {
	t := p.next()
	switch t.kind {
	case tokString:
		s := t.text
		for p.peek().kind == tokString { // neighbours join
			s += p.next().text
		}
		return &constExpr{s}, nil
	case tokInt:
		i, err := strconv.ParseInt(t.text, 10, 64)
		if err != nil {
			return nil, &lineError{t.line, errors.New("an integer is too large")}
		}
		return &constExpr{i}, nil
	case tokFloat:
		f, err := strconv.ParseFloat(t.text, 64)
		return &constExpr{f}, err
	case tokName:
		switch t.text {
		case "true", "True":
			return &constExpr{true}, nil
		case "false", "False":
			return &constExpr{false}, nil
		case "none", "None":
			return &constExpr{nil}, nil
		}
		if !keyword(t.text) {
			return &nameExpr{t.text}, nil
		}
	case tokOp:
		switch t.text {
		case "(":
			return p.bracket()
		case "[":
			return p.list()
		case "{":
			return p.dict()
		}
	}
	return nil, &lineError{t.line, fmt.Errorf("unexpected %s", t)}
}

// bracket reads (a), (a, b) or ().
func (p *parser) bracket() (expr, error) {
	if p.op(")") {
		return &listExpr{}, nil
	}
	e, err := p.tuple()
	if err != nil {
		return nil, err
	}
	return e, p.expect(")")
}

func (p *parser) list() (expr, error) {
	l := &listExpr{}
	for !p.op("]") {
		e, err := p.expr()
		if err != nil {
			return nil, err
		}
		l.items = append(l.items, e)
		if !p.op(",") && p.peek().text != "]" {
			return nil, p.errorf("want , or ] in a list, got %s", p.peek())
		}
	}
	return l, nil
}

func (p *parser) dict() (expr, error) {
	d := &dictExpr{line: p.peek().line}
	for !p.op("}") {
		k, err := p.expr()
		if err != nil {
			return nil, err
		}
		if err := p.expect(":"); err != nil {
			return nil, err
		}
		v, err := p.expr()
		if err != nil {
			return nil, err
		}
		d.keys, d.values = append(d.keys, k), append(d.values, v)
		if !p.op(",") && p.peek().text != "}" {
			return nil, p.errorf("want , or } in a mapping, got %s", p.peek())
		}
	}
	return d, nil
}
