package job

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// decode writes n into v, a settable value of Spec or below it. path is the dotted key for messages.
func decode(n *node, v reflect.Value, path string) error {
	if n.kind == null {
		v.SetZero()
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		if err := decode(n, p.Elem(), path); err != nil {
			return err
		}
		v.Set(p)
		return nil
	case reflect.Struct:
		return decodeStruct(n, v, path)
	case reflect.Slice:
		return decodeSlice(n, v, path)
	default:
		return decodeScalar(n, v, path)
	}
}

func decodeStruct(n *node, v reflect.Value, path string) error {
	if n.kind != mapping {
		return wrong(n, path, "a mapping of keys")
	}
	for _, k := range n.keys {
		f, ok := field(v, k.name)
		if !ok {
			return fmt.Errorf("%sunknown key %q; %s", at(k.line), join(path, k.name), suggest(path, k.name))
		}
		if err := decode(k.value, f, join(path, k.name)); err != nil {
			return err
		}
	}
	return nil
}

func decodeSlice(n *node, v reflect.Value, path string) error {
	if n.kind != sequence {
		return wrong(n, path, "a list, as in [a, b]")
	}
	out := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		if err := decode(item, out.Index(i), fmt.Sprintf("%s.%d", path, i)); err != nil {
			return err
		}
	}
	v.Set(out)
	return nil
}

func decodeScalar(n *node, v reflect.Value, path string) error {
	if n.kind != scalar {
		return wrong(n, path, scalarName(v))
	}
	if v.Kind() == reflect.String {
		v.SetString(n.text)
		return nil
	}
	if n.quoted {
		return wrong(n, path, scalarName(v)+" without quotes")
	}
	if err := setNumber(v, n.text); err != nil {
		return wrong(n, path, scalarName(v))
	}
	if v.IsZero() && slices.Contains(neverZero(), path) {
		return fmt.Errorf("%s%s is %s; choose a positive number, or leave the key out for the default", at(n.line), path, clip(n.text, 40))
	}
	return nil
}

// neverZero lists the keys whose zero cannot be meant: Validate, which cannot tell it from a key that is left out,
// would put the default in its place.
func neverZero() []string {
	return []string{"lora_r", "lora_alpha", "micro_batch_size", "global_batch_size", "optimizer.eps", "optimizer.rho",
		"optimizer.hessian_every", "lr_scheduler.decay_ratio", "swarm.min_peers", "checkpoint.every_steps"}
}

func setNumber(v reflect.Value, text string) error {
	switch v.Kind() {
	case reflect.Bool:
		if text != "true" && text != "false" {
			return errors.ErrUnsupported
		}
		v.SetBool(text == "true")
	case reflect.Int:
		i, err := strconv.ParseInt(text, 10, 64)
		if err != nil || i > math.MaxInt32 || i < math.MinInt32 {
			return strconv.ErrRange
		}
		v.SetInt(i)
	case reflect.Uint64:
		u, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return err
		}
		v.SetUint(u)
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return err
		}
		v.SetFloat(f)
	}
	return nil
}

func scalarName(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number below 2^31"
	case reflect.Uint64:
		return "a whole number from 0 to 2^64-1"
	case reflect.Float64:
		return "a number"
	}
	return "a string"
}

func wrong(n *node, path, want string) error {
	got := n.kind.String()
	if n.kind == scalar {
		got = strconv.Quote(clip(n.text, 40))
	}
	return fmt.Errorf("%s%s: want %s, got %s", at(n.line), path, want, got)
}

// clip keeps messages readable whatever the input holds.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

func at(line int) string {
	if line == 0 {
		return ""
	}
	return fmt.Sprintf("line %d: ", line)
}

func join(path, name string) string {
	name = clip(name, 60)
	if path == "" {
		return name
	}
	return path + "." + name
}

// field finds the field of struct v whose key is name.
func field(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if keyOf(v.Type().Field(i)) == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func keyOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}
