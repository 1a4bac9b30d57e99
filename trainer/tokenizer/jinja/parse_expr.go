package jinja

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

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

// left reads the operands of one level and joins them to the left. Each operator is a level of evaluation, so their
// number is bounded.
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
