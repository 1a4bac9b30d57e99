// Package shoal holds nothing; its test holds the rules of who may import whom.
package shoal

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"strings"
	"testing"
)

const module = "github.com/seed-7b27c88a/shoal/"

// rooms lists, for each top-level room, the rooms and packages of shoal it may import. Two towers (kernels, shard,
// trainer and p2p) never import each other; node joins them.
var rooms = map[string][]string{
	"kernels": {"kernels"},
	"shard":   {"shard", "kernels/dtype"},
	"trainer": {"trainer", "kernels", "shard"},
	"p2p":     {"p2p"},
	"node":    {"node", "p2p", "shard", "trainer", "kernels"},
	"cmd":     {"cmd", "node", "trainer", "shard", "kernels"},
}

// doors lists the only packages that may import a heavy dependency directly.
var doors = map[string][]string{
	"github.com/libp2p/":               {"p2p"},
	"go.etcd.io/raft/":                 {"p2p/replog"},
	"github.com/cockroachdb/pebble/":   {"shard/store"},
	"gorgonia.org/cu":                  {"kernels/cuda"},
	"github.com/goccy/go-yaml":         {"trainer/job", "node/config"},
	"github.com/nikolalohinski/gonja/": {"trainer/tokenizer"},
	"github.com/spf13/cobra":           {"cmd"},
	module + "node/coord":              {"node", "cmd"},
	module + "node/worker":             {"node"},
	"net/http":                         {"node", "cmd", "trainer/hub"},
	"github.com/klauspost/compress/":   {"trainer/data", "p2p"},
	"github.com/rogpeppe/go-internal/": {"cmd"},
	"github.com/dlclark/regexp2":       {"trainer/tokenizer"},
	"go.etcd.io/etcd/":                 {},
	"github.com/ipfs/boxo":             {},
	"github.com/stretchr/testify":      {},
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		self := strings.TrimPrefix(p.ImportPath, module)
		room, _, _ := strings.Cut(self, "/")
		for _, imp := range append(append(p.Imports, p.TestImports...), p.XTestImports...) {
			if ours, ok := strings.CutPrefix(imp, module); ok && !under(ours, rooms[room]) && self != "github.com/seed-7b27c88a/shoal" {
				t.Errorf("%s imports %s: the room %s may import %v", self, ours, room, rooms[room])
			}
			for dep, allowed := range doors {
				if strings.HasPrefix(imp, dep) && !under(self, allowed) {
					t.Errorf("%s imports %s: only %v may", self, imp, allowed)
				}
			}
		}
	}
}

func under(p string, roots []string) bool {
	for _, r := range roots {
		if p == r || strings.HasPrefix(p, r+"/") || path.Dir(p) == r {
			return true
		}
	}
	return false
}

type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var ps []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return ps
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
}
