package jinja

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ToJSON writes a value as the filter tojson does.
func ToJSON(v any) (string, error) {
	text, err := filterTojson(&run{}, args{[]any{v}, NewDict()})
	s, _ := text.(string)
	return s, err
}

// filterTojson is json.dumps as transformers calls it: no escaping of HTML or of characters beyond ASCII, keys in order.
func filterTojson(r *run, a args) (any, error) {
	w := jsonWriter{r: r, comma: ", ", colon: ": "}
	if v := a.get(1<<30, "indent", a.get(1, "indent", nil)); v != nil {
		n, _, isInt, ok := number(v)
		if !ok || !isInt || n < 0 || n > 64 {
			return nil, errors.New("tojson wants an indent of at most 64")
		}
		w.indent, w.pretty, w.comma = strings.Repeat(" ", int(n)), true, ","
	}
	if seps, ok := a.get(1<<30, "separators", nil).([]any); ok && len(seps) == 2 {
		w.comma, _ = seps[0].(string)
		w.colon, _ = seps[1].(string)
	}
	w.sorted = truth(a.get(1<<30, "sort_keys", false))
	w.ascii = truth(a.get(1<<30, "ensure_ascii", false))
	err := w.value(a.pos[0], 0)
	return w.b.String(), err
}

type jsonWriter struct {
	r            *run
	b            strings.Builder
	comma, colon string
	indent       string
	pretty       bool
	sorted       bool
	ascii        bool
}

func (w *jsonWriter) text(s string) error {
	w.b.WriteString(s)
	return w.r.charge(len(s))
}

func (w *jsonWriter) value(v any, depth int) error {
	if err := w.r.step(); err != nil {
		return err
	}
	if depth > maxDepth {
		return errors.New("tojson of a value that nests too deeply")
	}
	switch v := v.(type) {
	case nil:
		return w.text("null")
	case bool:
		return w.text(strconv.FormatBool(v))
	case int64:
		return w.text(strconv.FormatInt(v, 10))
	case float64:
		return w.text(floatText(v))
	case string:
		return w.str(v)
	case []any:
		return w.all("[", "]", len(v), depth, func(i int) error { return w.value(v[i], depth+1) })
	case *Dict:
		keys := v.keys
		if w.sorted {
			keys = slices.Sorted(slices.Values(keys))
		}
		return w.all("{", "}", len(keys), depth, func(i int) error {
			if err := errors.Join(w.str(keys[i]), w.text(w.colon)); err != nil {
				return err
			}
			return w.value(v.m[keys[i]], depth+1)
		})
	}
	return fmt.Errorf("tojson of %s", typeName(v))
}

func (w *jsonWriter) all(open, end string, n, depth int, item func(int) error) error {
	if err := w.text(open); err != nil || n == 0 {
		return errors.Join(err, w.text(end))
	}
	for i := range n {
		if i > 0 {
			if err := w.text(w.comma); err != nil {
				return err
			}
		}
		if err := w.newline(depth + 1); err != nil {
			return err
		}
		if err := item(i); err != nil {
			return err
		}
	}
	if err := w.newline(depth); err != nil {
		return err
	}
	return w.text(end)
}

func (w *jsonWriter) newline(depth int) error {
	if !w.pretty {
		return nil
	}
	return w.text("\n" + strings.Repeat(w.indent, depth))
}

func (w *jsonWriter) str(s string) error {
	if err := w.r.charge(2 * len(s)); err != nil {
		return err
	}
	w.b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			w.b.WriteByte('\\')
			w.b.WriteRune(c)
		case c == '\n':
			w.b.WriteString(`\n`)
		case c == '\r':
			w.b.WriteString(`\r`)
		case c == '\t':
			w.b.WriteString(`\t`)
		case c == '\b':
			w.b.WriteString(`\b`)
		case c == '\f':
			w.b.WriteString(`\f`)
		case c < ' ' || w.ascii && c > '~' && c < 0x10000:
			fmt.Fprintf(&w.b, `\u%04x`, c)
		case w.ascii && c >= 0x10000:
			c -= 0x10000
			fmt.Fprintf(&w.b, `\u%04x\u%04x`, 0xd800+c>>10, 0xdc00+c&0x3ff)
		default:
			w.b.WriteRune(c)
		}
	}
	w.b.WriteByte('"')
	return nil
}
