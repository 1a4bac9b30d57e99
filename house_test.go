package shoal

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// maxLines is the longest a file may be. Most have less than half of it.
const maxLines = 600

// TestEveryPackageSaysWhatItIsFor asks for one package comment in each package, commands included.
func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	docs := map[string][]string{} // package → files with a package comment
	for _, f := range sources(t) {
		if _, ok := docs[f.pkg]; !ok {
			docs[f.pkg] = nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.name, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		if file.Doc != nil && saysSomething(file) {
			docs[f.pkg] = append(docs[f.pkg], f.name)
		}
	}
	for pkg, files := range docs {
		switch len(files) {
		case 0:
			t.Errorf("package %s has no package comment", pkg)
		case 1:
		default:
			t.Errorf("package %s has a package comment in each of %v", pkg, files)
		}
	}
}

// saysSomething is false for comments that are directives alone.
func saysSomething(f *ast.File) bool { return strings.TrimSpace(f.Doc.Text()) != "" }

func TestFilesAreShort(t *testing.T) {
	for _, f := range sources(t) {
		if text := read(t, f.name); !generated(text) && bytes.Count(text, []byte("\n")) > maxLines {
			t.Errorf("%s has more than %d lines; a file holds one thing", f.name, maxLines)
		}
	}
}

var generatedLine = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func generated(text []byte) bool { return generatedLine.Match(text) }

// TestNobodySleeps forbids time.Sleep in tests, where it is a race with the machine's load. In a testing/synctest bubble
// time is virtual, so tests that use it may sleep.
func TestNobodySleeps(t *testing.T) {
	for _, f := range sources(t) {
		if !strings.HasSuffix(f.name, "_test.go") || slices.Contains(f.imports, "testing/synctest") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.SelectorExpr); ok && call.Sel.Name == "Sleep" {
				if x, ok := call.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s calls time.Sleep; wait for the event, or use testing/synctest", f.name)
				}
			}
			return true
		})
	}
}

// TestNothingIsLeftToDo forbids the marks of unfinished work.
func TestNothingIsLeftToDo(t *testing.T) {
	mark := regexp.MustCompile(`//.*\b(` + strings.Join([]string{"TO" + "DO", "FIX" + "ME", "X" + "XX"}, "|") + `)\b`)
	for _, f := range sources(t) {
		if line := mark.Find(read(t, f.name)); line != nil {
			t.Errorf("%s: %s", f.name, line)
		}
	}
}

// TestDocumentLinks follows the links from one of our pages to a file.
func TestDocumentLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || path.Ext(name) != ".md" {
			return err
		}
		for _, m := range link.FindAllSubmatch(read(t, name), -1) {
			target := filepath.Join(filepath.Dir(name), filepath.FromSlash(string(m[1])))
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDependenciesAreExplained holds docs/dependencies.md to the modules that go.mod requires directly.
func TestDependenciesAreExplained(t *testing.T) {
	page := string(read(t, "docs/dependencies.md"))
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(page, -1) {
		listed[m[1]] = true
	}
	required := map[string]bool{}
	for _, line := range strings.Split(string(read(t, "go.mod")), "\n") {
		if fields := strings.Fields(line); strings.HasPrefix(line, "\t") && len(fields) == 2 {
			required[fields[0]] = true
		}
	}
	for m := range required {
		if !listed[m] {
			t.Errorf("docs/dependencies.md does not say why %s is there", m)
		}
	}
	for m := range listed {
		if !required[m] {
			t.Errorf("docs/dependencies.md explains %s, which go.mod does not require", m)
		}
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
