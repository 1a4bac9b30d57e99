package prepare

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer/data"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/tokenizer"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func tinyModel(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := tiny.Write(dir, tiny.Shape{Type: "llama"}, 1); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A model is the same whether it lies in a directory or in blocks, and only its own files travel.
func TestModelStored(t *testing.T) {
	dir, mem := tinyModel(t), shard.NewMem()
	write(t, filepath.Join(dir, "notes.txt"), "private")
	write(t, filepath.Join(dir, "pytorch_model.bin"), "code")
	src := &Sources{Store: mem}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	m, err := src.Model(t.Context(), link, nil)
	if err != nil {
		t.Fatal(err)
	}
	manifest, c, err := m.Store(t.Context(), shard.KindModel, mem)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range manifest.Files {
		if f.Path == "notes.txt" || f.Path == "pytorch_model.bin" {
			t.Errorf("%s was stored", f.Path)
		}
	}
	again, err := src.Model(t.Context(), "cid:"+c.String(), nil)
	if err != nil || again.Check() != nil || again.Detail() != m.Detail() {
		t.Fatalf("stored model: %v, %v", err, again)
	}
	a, err := m.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	b, err := again.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	x, _ := a.Encode("tide")
	y, _ := b.Encode("tide")
	if len(x) == 0 || len(x) != len(y) {
		t.Errorf("tokens %v and %v", x, y)
	}
	if _, err := src.Adapter(t.Context(), "cid:"+c.String()); err == nil || !strings.Contains(err.Error(), "is a model") {
		t.Errorf("a model as an adapter: %v", err)
	}
}

// The names that a spec may say are those of the templates there are.
func TestChatTemplateNames(t *testing.T) {
	if want := append([]string{tokenizer.DefaultTemplate}, tokenizer.Templates()...); !slices.Equal(job.ChatTemplates(), want) {
		t.Errorf("%v, want %v", job.ChatTemplates(), want)
	}
}

func TestUnknown(t *testing.T) {
	src := &Sources{}
	for _, ref := range []string{"nowhere", "cid:bafy", ""} {
		if _, err := src.Model(t.Context(), ref, nil); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	if _, err := src.Model(t.Context(), "hf:no-slash", nil); err == nil {
		t.Error("hf:no-slash was taken")
	}
}

// Rows stored under a name materialise to the same positions as the file they came from.
func TestStoredRows(t *testing.T) {
	dir, mem := tinyModel(t), shard.NewMem()
	file := write(t, filepath.Join(t.TempDir(), "r.jsonl"), `{"prompt": "a", "completion": "b"}`+"\n"+`{"prompt": "c", "completion": "d"}`+"\n")
	stored, err := StoreRows(t.Context(), file, "", "r", mem, nil)
	if err != nil {
		t.Fatal(err)
	}
	src := &Sources{Store: mem, Find: func(kind, name string) (cid.Cid, error) {
		if kind == shard.KindData && name == "r" {
			return stored.CID, nil
		}
		return cid.Undef, nil
	}}
	m, err := src.Model(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	var built [2]data.Built
	for i, ref := range []string{file, "r"} {
		spec := &job.Spec{Datasets: []job.Dataset{{Path: ref}}}
		if built[i], err = src.Rows(t.Context(), spec, m, mem, nil); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := built[0].Train.Encode()
	b, _ := built[1].Train.Encode()
	if string(a) != string(b) || built[0].Stats.Rows != 2 {
		t.Errorf("manifests differ: %+v, %+v", built[0].Stats, built[1].Stats)
	}
	for name, row := range map[string]string{"torn": `{"text": `, "nothing known": `{"a": 1}`, "empty": ""} {
		bad := write(t, filepath.Join(t.TempDir(), "bad.jsonl"), row+"\n")
		if _, err := StoreRows(t.Context(), bad, "", "bad", mem, nil); err == nil {
			t.Errorf("%s: stored", name)
		}
	}
}

// hf: takes the model from a hub, here one on loopback that has it as small files.
func TestHub(t *testing.T) {
	dir := tinyModel(t)
	t.Setenv("HF_ENDPOINT", hubServer(t, dir))
	t.Setenv("HF_HUB_CACHE", t.TempDir())
	told := false
	m, err := (&Sources{}).Model(t.Context(), "hf:sea/tides@main", func(string, int64, int64) { told = true })
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(); err != nil || m.Name != "tides" || !told {
		t.Errorf("model %q, %v, progress %v", m.Name, err, told)
	}
	if _, _, err := m.Store(t.Context(), shard.KindModel, shard.NewMem()); err != nil {
		t.Error(err)
	}
}

// Rows of a split on the hub are trained on as those of a file are.
func TestHubRows(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "train-0.jsonl"), `{"text": "a"}`+"\n")
	write(t, filepath.Join(dir, "train-1.jsonl"), `{"text": "b"}`+"\n"+`{"text": "c"}`+"\n")
	write(t, filepath.Join(dir, "test.jsonl"), `{"text": "d"}`+"\n")
	t.Setenv("HF_ENDPOINT", hubServer(t, dir))
	t.Setenv("HF_HUB_CACHE", t.TempDir())
	src := &Sources{}
	m, err := src.Model(t.Context(), tinyModel(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	for split, rows := range map[string]int{"": 3, "test": 1} {
		spec := &job.Spec{Datasets: []job.Dataset{{Path: "hf:sea/tides", Split: split}}}
		built, err := src.Rows(t.Context(), spec, m, shard.NewMem(), nil)
		if err != nil || built.Stats.Rows != rows {
			t.Errorf("split %q: %+v, %v", split, built.Stats, err)
		}
	}
	spec := &job.Spec{Datasets: []job.Dataset{{Path: "hf:sea/tides", Split: "spring"}}}
	if _, err := src.Rows(t.Context(), spec, m, shard.NewMem(), nil); err == nil || !strings.Contains(err.Error(), "it has test, train") {
		t.Error(err)
	}
}

func hubServer(t *testing.T, dir string) string {
	t.Helper()
	const commit = "0123456789012345678901234567890123456789"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	type lfs struct {
		SHA256 string `json:"sha256"`
		OID    string `json:"oid"`
		Size   int    `json:"size"`
	}
	type sibling struct {
		Name   string `json:"rfilename"`
		Path   string `json:"path"`
		Type   string `json:"type"`
		OID    string `json:"oid"`
		BlobID string `json:"blobId"`
		Size   int    `json:"size"`
		LFS    lfs    `json:"lfs"`
	}
	var files []sibling
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		h := hex.EncodeToString(sum[:])
		files = append(files, sibling{e.Name(), e.Name(), "file", h[:40], h[:40], len(b), lfs{h, h, len(b)}})
	}
	mux := http.NewServeMux()
	list := func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/tree/") {
			json.NewEncoder(w).Encode(files)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"sha": commit, "siblings": files})
	}
	mux.HandleFunc("/api/models/", list)
	mux.HandleFunc("/api/datasets/", list)
	for _, at := range []string{"/sea/tides/resolve/", "/datasets/sea/tides/resolve/"} {
		mux.Handle(at+commit+"/", http.StripPrefix(at+commit+"/", http.FileServer(http.Dir(dir))))
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}
