package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// readJSON reads one JSON document, token by token so that every value keeps its line.
func readJSON(data []byte) (*node, error) {
	r := &jsonReader{data: data, dec: json.NewDecoder(bytes.NewReader(data))}
	r.dec.UseNumber()
	n, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("line %d: something follows the closing brace", r.line())
	}
	return n, nil
}

type jsonReader struct {
	data []byte
	dec  *json.Decoder
}

func (r *jsonReader) line() int {
	return 1 + bytes.Count(r.data[:min(int(r.dec.InputOffset()), len(r.data))], []byte("\n"))
}

func (r *jsonReader) token() (json.Token, error) {
	t, err := r.dec.Token()
	if err != nil {
		return nil, fmt.Errorf("line %d: not readable as JSON: %w", r.line(), err)
	}
	return t, nil
}

func (r *jsonReader) value(depth int) (*node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("line %d: nested too deeply", r.line())
	}
	t, err := r.token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '{' {
			return r.object(depth)
		}
		return r.array(depth)
	case string:
		return &node{kind: scalar, line: r.line(), text: t, quoted: true}, nil
	case nil:
		return &node{kind: null, line: r.line()}, nil
	default: // json.Number, bool
		return &node{kind: scalar, line: r.line(), text: fmt.Sprint(t)}, nil
	}
}

func (r *jsonReader) object(depth int) (*node, error) {
	out := &node{kind: mapping, line: r.line()}
	for r.dec.More() {
		t, err := r.token()
		if err != nil {
			return nil, err
		}
		name, at := t.(string), r.line() // the decoder lets only strings be keys
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if err := out.add(key{name, at, v}); err != nil {
			return nil, err
		}
	}
	_, err := r.token()
	return out, err
}

func (r *jsonReader) array(depth int) (*node, error) {
	out := &node{kind: sequence, line: r.line()}
	for r.dec.More() {
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out.items = append(out.items, v)
	}
	_, err := r.token()
	return out, err
}
