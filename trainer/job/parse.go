package job

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxBytes bounds the text of a spec and its canonical bytes.
const MaxBytes = 64 << 10

// Load reads the spec in a file; "-" is standard input. The spec is not yet validated, so that Set can complete it.
func Load(name string) (Spec, error) {
	in := os.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return Spec{}, fmt.Errorf("read job spec: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, MaxBytes+1))
	if err != nil {
		return Spec{}, fmt.Errorf("read job spec: %w", err)
	}
	s, err := Parse(data)
	if err != nil {
		return Spec{}, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// Parse reads a spec from YAML or JSON (a text that starts with a brace). It refuses unknown and repeated keys and
// values of the wrong type, naming the line. The result is what the text says; Validate completes and checks it.
func Parse(data []byte) (Spec, error) {
	n, err := readTree(data)
	if err != nil {
		return Spec{}, err
	}
	var s Spec
	if err := decode(n, reflect.ValueOf(&s).Elem(), ""); err != nil {
		return Spec{}, err
	}
	return s, nil
}

func readTree(data []byte) (*node, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("a job spec has at most %d bytes; put data into files and name them under datasets", MaxBytes)
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("not UTF-8 text; save the spec as UTF-8")
	}
	if t := bytes.TrimSpace(data); len(t) > 0 && t[0] == '{' {
		n, err := readJSON(data)
		if err == nil {
			return n, nil
		}
		if y, yerr := readYAML(data); yerr == nil { // a YAML flow mapping also starts with a brace
			return y, nil
		}
		return nil, err
	}
	return readYAML(data)
}

// Set applies one override "key=value", with dots between levels (optimizer.lr=1e-4, datasets.0.path=x.jsonl). A value
// that starts with [, { or a quote is read as YAML, any other is taken as it stands; an empty value unsets the key.
func (s *Spec) Set(assignment string) error {
	path, text, ok := strings.Cut(assignment, "=")
	path = strings.TrimSpace(path)
	if !ok || path == "" {
		return fmt.Errorf("set %q: want key=value", clip(assignment, 60))
	}
	n, err := setValue(strings.TrimSpace(text))
	if err != nil {
		return fmt.Errorf("set %s: %w", clip(path, 60), err)
	}
	v, err := walk(reflect.ValueOf(s).Elem(), path)
	if err != nil {
		return fmt.Errorf("set: %w", err)
	}
	if err := decode(n, v, path); err != nil {
		return fmt.Errorf("set: %w", err)
	}
	return nil
}

func setValue(text string) (*node, error) {
	switch {
	case text == "":
		return &node{kind: null}, nil
	case strings.ContainsRune("[{'\"", rune(text[0])):
		n, err := readTree([]byte(text))
		if err != nil {
			return nil, err
		}
		return n, nil
	}
	return &node{kind: scalar, text: text}, nil
}

// walk follows a dotted path from v, a Spec.
func walk(v reflect.Value, path string) (reflect.Value, error) {
	done := ""
	for _, name := range strings.Split(path, ".") {
		switch v.Kind() {
		case reflect.Struct:
			f, ok := field(v, name)
			if !ok {
				return v, fmt.Errorf("unknown key %q; %s", join(done, name), suggest(done, name))
			}
			v = f
		case reflect.Slice:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= v.Len() {
				return v, fmt.Errorf("%s has %d elements, there is no %q", done, v.Len(), clip(name, 20))
			}
			v = v.Index(i)
		default:
			return v, fmt.Errorf("%s is a single value, it has no key %q", done, clip(name, 20))
		}
		done = join(done, name)
	}
	return v, nil
}
