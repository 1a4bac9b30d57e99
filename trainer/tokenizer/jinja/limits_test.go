package jinja

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestHostile renders templates that want to run for ever, to fill memory or to overflow the stack.
func TestHostile(t *testing.T) {
	big := map[string]any{"big": strings.Repeat("ab\n", 1<<20)}
	for name, source := range map[string]string{
		"endless recursion":      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
		"mutual recursion":       "{% macro f(g) %}{{ g(g) }}{% endmacro %}{{ f(f) }}",
		"recursion that grows":   "{% macro f(x) %}{{ x }}{{ f(x ~ x) }}{% endmacro %}{{ f('a') }}",
		"nested loops":           strings.Repeat("{% for i in range(1000) %}", 5) + strings.Repeat("{% endfor %}", 5),
		"long range":             "{% for i in range(10 ** 12) %}{% endfor %}",
		"long repetition":        "{{ 'x' * 10 ** 12 }}",
		"repeated repetition":    "{% for i in range(1000) %}{% set x = 'x' * 10 ** 7 %}{% endfor %}",
		"doubling":               "{% set a = 'ab' %}" + strings.Repeat("{% set a = a ~ a %}", 60),
		"doubling lists":         "{% set a = [1] %}" + strings.Repeat("{% set a = a + a %}", 60),
		"doubling by reference":  "{% set a = [1] %}" + strings.Repeat("{% set a = [a, a] %}", 60) + "{{ a | tojson }}",
		"comparing the doubled":  "{% set a = [1] %}{% set b = [1] %}" + strings.Repeat("{% set a = [a, a] %}{% set b = [b, b] %}", 60) + "{{ a == b }}",
		"deep list":              "{% set ns = namespace(a=[], b=[]) %}{% for i in range(100000) %}{% set ns.a = [ns.a] %}{% set ns.b = [ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
		"deep list, printed":     "{% set ns = namespace(a=[]) %}{% for i in range(100000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a }}",
		"namespace in itself":    "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns.x }}{{ ns.x | tojson }}",
		"replace":                "{{ big.replace('a', big) }}",
		"join":                   "{{ range(100000) | join(big) }}",
		"indent":                 "{{ big | indent(1000) | indent(1000) }}",
		"looking without end":    "{% for i in range(1000000) %}{% if big.endswith('x') %}{% endif %}{% endfor %}",
		"filters without end":    "{% for i in range(1000000) %}{% set x = big | upper | lower | length %}{% endfor %}",
		"strip of everything":    "{{ big.strip(big) }}",
		"huge power":             "{{ 10 ** 400 }}",
		"huge product":           "{{ 9223372036854775807 * 9223372036854775807 }}",
		"huge sum":               "{{ 9223372036854775807 + 1 }}",
		"smallest, halved":       "{{ (0 - 9223372036854775807 - 1) // (0 - 1) + 1 }}{{ 'x' * (0 - 5) }}{{ 1 // 0 }}",
		"brackets":               "{{ " + strings.Repeat("(", 100000) + strings.Repeat(")", 100000) + " }}",
		"not not":                "{{ " + strings.Repeat("not ", 100000) + "x }}",
		"minus minus":            "{{ " + strings.Repeat("- ", 100000) + "1 }}",
		"long sum":               "{{ 1" + strings.Repeat(" + 1", 100000) + " }}",
		"long access":            "{{ a" + strings.Repeat(".a", 100000) + " }}",
		"long filters":           "{{ a" + strings.Repeat("|upper", 100000) + " }}",
		"long else":              "{{ " + strings.Repeat("1 if 0 else ", 100000) + "1 }}",
		"long chain of chains":   "{{ " + strings.Repeat("(1"+strings.Repeat(" + 1", 900)+" + ", 150) + "1" + strings.Repeat(")", 150) + " }}",
		"nested ifs":             strings.Repeat("{% if 1 %}", 10000),
		"too long":               strings.Repeat("x", MaxSource+1),
		"no end":                 "{{ 1",
		"no end of block":        "{% if 1",
		"no end of comment":      "{# 1",
		"no end of string":       "{{ 'a",
		"no endif":               "{% if 1 %}",
		"no endraw":              "{% raw %}{% if %}",
		"break alone":            "{% break %}",
		"break in a macro":       "{% macro f() %}{% break %}{% endmacro %}{{ f() }}",
		"slice of nothing":       "{{ 5[1:2] }}",
		"slice by zero":          "{{ 'abc'[::0] }}",
		"slice, huge":            "{{ 'abc'[::9223372036854775807] }}{{ 'abc'[-9223372036854775807:] }}{{ 1 // 0 }}",
		"import":                 "{% include '/etc/passwd' %}",
		"attribute of attribute": "{{ ''.__class__.__mro__ }}",
		"set of a list":          "{% set messages.x = 1 %}",
	} {
		began := time.Now()
		out, err := render(source, big)
		if err == nil {
			t.Errorf("%s: %.60q without an error", name, out)
		}
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("%s took %v", name, d)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
}

func TestGeneration(t *testing.T) {
	tmpl, err := Parse("{% for m in ms %}\n<{{ m.role }}>{% generation %}{{ m.text }}|{% endgeneration %}\n{% endfor %}\n")
	if err != nil {
		t.Fatal(err)
	}
	ms, err := FromJSON([]byte(`[{"role": "a", "text": "one"}, {"role": "b", "text": "é"}]`))
	if err != nil {
		t.Fatal(err)
	}
	out, spans, err := tmpl.Execute(map[string]any{"ms": ms})
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, s := range spans {
		said = append(said, out[s.Lo:s.Hi])
	}
	if d := cmp.Diff([]string{"one|", "é|"}, said); d != "" {
		t.Errorf("%q: %s", out, d)
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	_, err := render("a\n{{ 'x' }}\n\n{{ raise_exception('roles must alternate') }}", nil)
	var l *lineError
	if !errors.As(err, &l) || err.Error() != "template line 4: roles must alternate" {
		t.Errorf("%v", err)
	}
}

func FuzzRender(f *testing.F) {
	for _, s := range []string{
		"{% for m in messages %}{{ '<|' ~ m['role'] ~ '|>' + m.content | trim }}{% endfor %}",
		"{%- set ns = namespace(a=0) -%}{% macro f(x, y=1) %}{{ x[y:] }}{% endmacro %}{{ f('abc') | tojson(indent=2) }}",
		"{% raw %}{{{% endraw %}{# c #}{{ 1 if x is defined else -2 ** 3 // 4 }}",
		"{{ d.items() | map('first') | list | join(',') }}{{ messages | selectattr('role', 'eq', 'user') | list }}",
		"{% generation %}{{ range(3) | reverse | list }}{% endgeneration %}{% set a, b = 1, 'x' %}{{ a ~ b[::-1] }}",
	} {
		f.Add(s)
	}
	v, err := FromJSON([]byte(`{"messages": [{"role": "user", "content": " hé "}], "d": {"a": 1.5, "b": [null, true]}}`))
	if err != nil {
		f.Fatal(err)
	}
	vars := v.(*Dict).m
	f.Fuzz(func(t *testing.T, source string) {
		tmpl, err := Parse(source)
		if err != nil {
			return
		}
		out, spans, err := tmpl.Execute(vars)
		if err != nil {
			return
		}
		again, _, err := tmpl.Execute(vars)
		if err != nil || again != out {
			t.Fatalf("two renderings differ: %q, %q, %v", out, again, err)
		}
		for _, s := range spans {
			if s.Lo < 0 || s.Lo >= s.Hi || s.Hi > len(out) {
				t.Fatalf("span %v of %d bytes", s, len(out))
			}
		}
	})
}

func FuzzFromJSON(f *testing.F) {
	f.Add([]byte(`{"a": [1, 2.5, "x", null, {"b": true}]}`))
	f.Add([]byte(strings.Repeat("[", 1000)))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := FromJSON(data)
		if err != nil {
			return
		}
		if _, err := render("{{ v | tojson }}{{ v }}", map[string]any{"v": v}); err != nil && !errors.Is(err, errSteps) && !errors.Is(err, errBytes) {
			t.Fatal(err)
		}
	})
}
