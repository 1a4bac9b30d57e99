package jinja

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// golden is what testdata/golden.py writes.
type golden struct {
	Tokens        map[string]any
	Sources       map[string]string
	Conversations map[string]json.RawMessage // variables by name
	Cases         []goldenCase
}

type goldenCase struct {
	Template, Name string
	Answer         bool    // the invitation to answer is asked for
	Want           *string // nil: it must fail
	Marked, Error  string
}

func readGolden(t *testing.T, name string) (g golden) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

// render renders a case, plainly and with the marks of golden.py around what generation blocks made.
func (g golden) render(c goldenCase) (text, marked string, err error) {
	tmpl, err := Parse(g.Sources[c.Template])
	if err != nil {
		return "", "", err
	}
	given, err := FromJSON(g.Conversations[c.Name])
	if err != nil {
		return "", "", err
	}
	vars := map[string]any{"tools": nil, "documents": nil, "add_generation_prompt": c.Answer,
		"strftime_now": Today(time.Date(2024, 7, 26, 0, 0, 0, 0, time.UTC))}
	maps.Copy(vars, g.Tokens)
	maps.Copy(vars, given.(*Dict).m)
	text, spans, err := tmpl.Execute(vars)
	if err != nil {
		return "", "", err
	}
	var b strings.Builder
	at := 0
	for _, s := range spans {
		b.WriteString(text[at:s.Lo] + "\x01" + text[s.Lo:s.Hi] + "\x02")
		at = s.Hi
	}
	return text, b.String() + text[at:], nil
}

// check compares with jinja2: the same text and marks, or an error in both.
func (g golden) check(c goldenCase) string {
	text, marked, err := g.render(c)
	if c.Marked == "" && c.Want != nil {
		c.Marked = *c.Want
	}
	empty := strings.ReplaceAll(c.Marked, "\x01\x02", "") // marks around nothing are none
	switch {
	case c.Want == nil && err == nil:
		return "renders, but jinja2 says " + c.Error
	case c.Want == nil:
		return ""
	case err != nil:
		return "fails: " + err.Error()
	case text != *c.Want:
		return "differs:\n got " + text + "\nwant " + *c.Want
	case marked != empty:
		return "marks differ:\n got " + marked + "\nwant " + empty
	}
	return ""
}

// TestOwnTemplates compares with jinja2 on shoal's own templates and on one that uses whatever the others do not.
func TestOwnTemplates(t *testing.T) {
	g := readGolden(t, "testdata/own.json")
	for file, source := range g.Sources {
		dir := "../templates"
		if file == "constructs.jinja" {
			dir = "testdata"
		}
		if now, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(now) != source {
			t.Errorf("%s is not the one in own.json, write that again with golden.py (%v)", file, err)
		}
	}
	g.compare(t)
}

// TestCorpus does so on templates that are not ours to ship: name a file of testdata/golden.py.
func TestCorpus(t *testing.T) {
	name := os.Getenv("SHOAL_CHAT_GOLDEN")
	if name == "" {
		t.Skip("no templates of real models: write a golden file with testdata/golden.py and name it in SHOAL_CHAT_GOLDEN")
	}
	readGolden(t, name).compare(t)
}

func (g golden) compare(t *testing.T) {
	same, refused := 0, 0
	failed := map[string]bool{}
	for _, c := range g.Cases {
		if problem := g.check(c); problem != "" {
			failed[c.Template] = true
			t.Errorf("%s, %s: %s", c.Template, c.Name, problem)
		} else if c.Want == nil {
			refused++
		} else {
			same++
		}
	}
	t.Logf("%d templates, %d cases identical, %d refused by both; templates with a difference: %d", len(g.Sources), same, refused, len(failed))
}
