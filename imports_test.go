// Package shoal holds nothing; its tests hold the rules of the house: who may import whom.
package shoal

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/seed-7b27c88a/shoal/"

// rooms lists, for each top-level room, the rooms and packages of shoal that it may import. Two towers (kernels, shard,
// trainer; and p2p) never import each other; node joins them.
var rooms = map[string][]string{
	"kernels": {"kernels"},
	"shard":   {"shard", "kernels/dtype"},
	"trainer": {"trainer", "kernels", "shard"},
	"p2p":     {"p2p"},
	"node":    {"node", "p2p", "shard", "trainer", "kernels"},
	"cmd":     {"cmd", "node", "trainer", "shard", "kernels"},
}

// doors lists, for each heavy dependency and inner package, the only places that may import it directly.
var doors = map[string][]string{
	"github.com/libp2p/":             {"p2p"},
	"go.etcd.io/raft/":               {"p2p/replog"},
	"github.com/cockroachdb/pebble/": {"shard/store"},
	"github.com/prometheus/":         {"node/metrics"},
	"github.com/goccy/go-yaml":       {"trainer/job", "node/config"},
	"github.com/spf13/":              {"cmd"},
	"github.com/dlclark/regexp2":     {"trainer/tokenizer"},
	"github.com/gpustack/":           {"trainer/gguf"},
	"github.com/klauspost/compress/": {"trainer/data", "p2p"},
	"github.com/zeebo/":              {"p2p/collective"},
	"github.com/parquet-go/":         {"trainer/data"},
	"net/http":                       {"node", "cmd", "trainer/hub", "p2p/nettest"}, // tests ask daemons for their metrics
	module + "node/coord":            {"node", "cmd"},
	module + "node/worker":           {"node"},
}

func TestImports(t *testing.T) {
	for _, f := range sources(t) {
		room, _, _ := strings.Cut(f.pkg, "/")
		for _, imp := range f.imports {
			if ours, ok := strings.CutPrefix(imp, module); ok && f.pkg != "." && !under(ours, rooms[room]) {
				t.Errorf("%s imports %s: the room %s may import %v", f.name, ours, room, rooms[room])
			}
			for dep, allowed := range doors {
				if strings.HasPrefix(imp, dep) && !under(f.pkg, allowed) {
					t.Errorf("%s imports %s: only %v may", f.name, imp, allowed)
				}
			}
		}
	}
}

func under(p string, roots []string) bool {
	for _, r := range roots {
		if p == r || strings.HasPrefix(p, r+"/") {
			return true
		}
	}
	return false
}

// source is a Go file of the module.
type source struct {
	name, pkg string // slash-separated, relative to the module's root
	imports   []string
}

// sources reads the imports of every Go file, tests included, whatever its build tags.
func sources(t *testing.T) (out []source) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".go" {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		s := source{name: filepath.ToSlash(name), pkg: path.Dir(filepath.ToSlash(name))}
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, p)
		}
		out = append(out, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
