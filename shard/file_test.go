package shard

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/ipfs/go-cid"
)

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// countingGetter counts what reaches the store.
type countingGetter struct {
	Getter
	mu sync.Mutex
	n  int
}

func (g *countingGetter) Get(ctx context.Context, c cid.Cid) ([]byte, error) {
	g.mu.Lock()
	g.n++
	g.mu.Unlock()
	return g.Getter.Get(ctx, c)
}

func TestFile(t *testing.T) {
	for _, n := range []int{0, 1, MaxBlock - 1, MaxBlock, MaxBlock + 1, 3*MaxBlock + 17} {
		data := noise(n)
		s := NewMem()
		f, err := WriteFile(t.Context(), s, "x", iotest.HalfReader(bytes.NewReader(data)))
		if err != nil || f.Size != uint64(n) || f.validate() != nil {
			t.Fatalf("%d bytes: %+v, %v", n, f, err)
		}
		if err := iotest.TestReader(io.NewSectionReader(NewReader(t.Context(), s, f), 0, int64(n)), data); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestReaderAsksOncePerBlock(t *testing.T) {
	data := noise(3*MaxBlock + 17)
	s := NewMem()
	f, err := WriteFile(t.Context(), s, "x", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	g := &countingGetter{Getter: s}
	r := NewReader(t.Context(), g, f)
	var wg sync.WaitGroup
	for range 3 { // piece by piece, side by side
		wg.Go(func() {
			got, err := io.ReadAll(iotest.HalfReader(io.NewSectionReader(r, 0, r.Size())))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	if g.n > 3*4 {
		t.Errorf("%d reads of 4 blocks by 3 readers", g.n)
	}
}

func TestWriteFileNoticesABrokenSource(t *testing.T) {
	for name, r := range map[string]io.Reader{
		"cut download": io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(io.ErrUnexpectedEOF)),
		"bad disk":     iotest.ErrReader(fs.ErrPermission),
	} {
		if _, err := WriteFile(t.Context(), NewMem(), "x", r); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := WriteFile(t.Context(), NewMem(), "../x", strings.NewReader("")); err == nil {
		t.Error("a path that leads out: no error")
	}
}

func TestReaderRefuses(t *testing.T) {
	s := NewMem()
	short, err := s.Add(t.Context(), cid.Raw, []byte("abc"))
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]File{
		"wrong length":  {Path: "x", Size: 4, Blocks: []cid.Cid{short}},
		"missing block": {Path: "x", Size: 3, Blocks: []cid.Cid{Sum(cid.Raw, []byte("other"))}},
		"no blocks":     {Path: "x", Size: 3},
	} {
		if _, err := NewReader(t.Context(), s, f).ReadAt(make([]byte, 1), 0); err == nil || err == io.EOF {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := NewReader(t.Context(), s, File{Path: "x", Size: 3, Blocks: []cid.Cid{short}})
	if _, err := r.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a negative offset: no error")
	}
	if n, err := r.ReadAt(make([]byte, 4), 1); n != 2 || err != io.EOF {
		t.Errorf("past the end: %d, %v", n, err)
	}
}

func TestImportExport(t *testing.T) {
	src := t.TempDir()
	files := map[string][]byte{"config.json": []byte("{}"), "empty": nil, "a/b/weights": noise(MaxBlock + 5), "a.txt": []byte("x")}
	for path, data := range files {
		full := filepath.Join(src, filepath.FromSlash(path))
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o700), os.WriteFile(full, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for path, data := range map[string]string{".hidden": "x", "README.md": "x"} {
		if err := os.WriteFile(filepath.Join(src, path), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := NewMem()
	m, c, err := ImportDir(t.Context(), s, src, KindModel, "m", func(path string) bool { return path != "README.md" })
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Files) != len(files) {
		t.Errorf("files: %+v", m.Files)
	}
	loaded, err := LoadManifest(t.Context(), s, c)
	if err != nil {
		t.Fatal(err)
	}
	dst := filepath.Join(t.TempDir(), "new", "out")
	if err := ExportDir(t.Context(), s, loaded, dst); err != nil {
		t.Fatal(err)
	}
	for path, data := range files {
		if got, err := os.ReadFile(filepath.Join(dst, path)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
		r, size, err := OpenFiles(t.Context(), s, loaded).Open(path)
		if err != nil || size != int64(len(data)) {
			t.Fatalf("%s: %d bytes, %v", path, size, err)
		}
		if got, err := io.ReadAll(io.NewSectionReader(r, 0, size)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
	}
	if _, _, err := OpenFiles(t.Context(), s, loaded).Open("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if err := ExportDir(t.Context(), s, loaded, dst); err == nil {
		t.Error("export over a full folder: no error")
	}
}

// TestExportLeavesNothingHalf exports with a block missing: neither the folder nor a part of it may stay.
func TestExportLeavesNothingHalf(t *testing.T) {
	parent := t.TempDir()
	m := sample() // none of its blocks is stored
	if err := ExportDir(t.Context(), NewMem(), m, filepath.Join(parent, "out")); !errors.Is(err, ErrNotFound) {
		t.Fatalf("got %v", err)
	}
	left, err := os.ReadDir(parent)
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	m.Files[0].Path = "../evil"
	if err := ExportDir(t.Context(), NewMem(), m, filepath.Join(parent, "out")); err == nil {
		t.Error("a path that leads out: no error")
	}
}

func TestLoadManifestRefuses(t *testing.T) {
	s := NewMem()
	raw, _ := s.Add(t.Context(), cid.Raw, []byte("x"))
	junk, _ := s.Add(t.Context(), cid.DagCBOR, []byte("x"))
	for name, c := range map[string]cid.Cid{"raw": raw, "junk": junk, "undefined": cid.Undef, "absent": Sum(cid.DagCBOR, nil)} {
		if _, err := LoadManifest(t.Context(), s, c); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}
