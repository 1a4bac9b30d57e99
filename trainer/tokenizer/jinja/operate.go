package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"
)

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
