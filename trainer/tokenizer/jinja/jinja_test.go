package jinja

import (
	"encoding/json"
	"os"
	"testing"
)

// TestAgainstJinja2 compares with what Python's jinja2 3.1.6 made of the same templates, set up as transformers does.
func TestAgainstJinja2(t *testing.T) {
	data, err := os.ReadFile("testdata/jinja2.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Vars  json.RawMessage
		Cases []struct {
			Template string
			Want     string
			Error    string
		}
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	v, err := FromJSON(golden.Vars)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range golden.Cases {
		got, err := render(c.Template, v.(*Dict).m)
		if (err != nil) != (c.Error != "") {
			t.Errorf("%s\nerror %v, want %q", c.Template, err, c.Error)
		} else if err == nil && got != c.Want {
			t.Errorf("%s\ngot  %q\nwant %q", c.Template, got, c.Want)
		}
	}
}

func render(source string, vars map[string]any) (string, error) {
	tmpl, err := Parse(source)
	if err != nil {
		return "", err
	}
	out, _, err := tmpl.Execute(vars)
	return out, err
}
