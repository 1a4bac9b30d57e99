package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/store/storetest"
)

func openMem(t *testing.T, o Options) *Store {
	t.Helper()
	if o.fs == nil {
		o.fs = vfs.NewMem()
	}
	s, err := Open("home/store", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	rand.NewChaCha8(key).Read(b)
	return b
}

func add(t *testing.T, p shard.Putter, codec uint64, data []byte) cid.Cid {
	t.Helper()
	c, err := p.Add(t.Context(), codec, data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func has(t *testing.T, s shard.Store, c cid.Cid) bool {
	t.Helper()
	ok, err := s.Has(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) shard.Store { return openMem(t, Options{}) })
}

func TestStoreOnDisk(t *testing.T) {
	storetest.Run(t, func(t *testing.T) shard.Store {
		s, err := Open(filepath.Join(t.TempDir(), "store"), Options{Reserve: -1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	})
}

func TestReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := Open(dir, Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	var blocks []cid.Cid
	total := int64(0)
	for i := range 40 {
		data := noise(uint64(i), 1000*i)
		total += int64(len(data))
		blocks = append(blocks, add(t, s.Deferred(), cid.Raw, data))
	}
	if err := errors.Join(s.Pin(t.Context(), "x", blocks[3]), s.KV("a").Set([]byte("k"), []byte("v")), s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), blocks[0]); !errors.Is(err, ErrClosed) {
		t.Errorf("Get after Close: %v", err)
	}
	if _, err := s.Add(t.Context(), cid.Raw, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Add after Close: %v", err)
	}
	if s, err = Open(dir, Options{Reserve: -1}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if st := s.Stats(); st.Blocks != 40 || st.Used != total {
		t.Errorf("%+v, want 40 blocks of %d bytes", st, total)
	}
	for i, c := range blocks {
		if got, err := s.Get(t.Context(), c); err != nil || !bytes.Equal(got, noise(uint64(i), 1000*i)) {
			t.Errorf("block %d: %d bytes, %v", i, len(got), err)
		}
	}
	pins, err := s.Pins(t.Context(), "")
	if err != nil || len(pins) != 1 || pins[0] != (Pin{"x", blocks[3]}) {
		t.Errorf("pins: %v, %v", pins, err)
	}
	if v, err := s.KV("a").Get([]byte("k")); err != nil || string(v) != "v" {
		t.Errorf("value: %q, %v", v, err)
	}
}

func TestFormatOfTheFutureIsRefused(t *testing.T) {
	mem := vfs.NewMem()
	s, err := Open("s", Options{fs: mem})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.db.Set(versionKey, []byte("3"), nil), s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("s", Options{fs: mem}); err == nil || !strings.Contains(err.Error(), "version") {
		t.Fatalf("got %v", err)
	}
}

// TestLock opens a store twice in this process, and in another process while it is open here.
func TestLock(t *testing.T) {
	const env = "SHOAL_TEST_OPEN_STORE"
	if dir := os.Getenv(env); dir != "" {
		_, err := Open(dir, Options{Reserve: -1})
		fmt.Println("the other process:", err)
		return
	}
	dir := filepath.Join(t.TempDir(), "store")
	s, err := Open(dir, Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{Reserve: -1}); !errors.Is(err, ErrLocked) {
		t.Errorf("the same process: %v", err)
	}
	other := exec.Command(os.Args[0], "-test.run=^TestLock$")
	other.Env = append(os.Environ(), env+"="+dir)
	out, err := other.CombinedOutput()
	if err != nil || !strings.Contains(string(out), ErrLocked.Error()) {
		t.Errorf("%s%v", out, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(dir, Options{Reserve: -1}); err != nil {
		t.Fatalf("after Close: %v", err)
	}
	s.Close()
}

func TestUnwritableDirectoryIsNotLocked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var path *fs.PathError
	if _, err := Open(filepath.Join(file, "store"), Options{Reserve: -1}); errors.Is(err, ErrLocked) || !errors.As(err, &path) {
		t.Errorf("got %v", err)
	}
}

func TestQuota(t *testing.T) {
	s := openMem(t, Options{Quota: 10000})
	a := add(t, s, cid.Raw, noise(1, 6000))
	if _, err := s.Add(t.Context(), cid.Raw, noise(2, 6000)); !errors.Is(err, shard.ErrFull) {
		t.Fatalf("past the quota: %v", err)
	}
	add(t, s, cid.Raw, noise(1, 6000)) // there already: takes nothing
	add(t, s, cid.Raw, noise(3, 4000)) // fits exactly
	if st := s.Stats(); st.Used != 10000 || st.Blocks != 2 {
		t.Errorf("%+v", st)
	}
	if err := s.KV("log").Set([]byte("k"), noise(4, 20000)); err != nil {
		t.Errorf("key-value areas have no quota: %v", err)
	}
	if err := s.Pin(t.Context(), "keep", a); err != nil {
		t.Fatal(err)
	}
	if freed, err := s.GC(t.Context()); err != nil || freed != (Freed{1, 4000}) {
		t.Errorf("%+v, %v", freed, err)
	}
	add(t, s, cid.Raw, noise(2, 4000))
}

func TestGC(t *testing.T) {
	s := openMem(t, Options{})
	ctx := t.Context()
	var files []shard.File
	for i := range 3 {
		f, err := shard.WriteFile(ctx, s, fmt.Sprintf("f%d", i), bytes.NewReader(noise(uint64(i), 5000)))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	one, err := shard.SaveManifest(ctx, s, &shard.Manifest{Version: 1, Kind: shard.KindModel, Files: files[:2]})
	if err != nil {
		t.Fatal(err)
	}
	two, err := shard.SaveManifest(ctx, s, &shard.Manifest{Version: 1, Kind: shard.KindModel, Files: files[1:]})
	if err != nil {
		t.Fatal(err)
	}
	record := add(t, s, cid.DagCBOR, []byte("not a manifest"))
	garbage := add(t, s, cid.Raw, noise(9, 9000))
	absent := shard.Sum(cid.Raw, []byte("not there yet"))
	for name, roots := range map[string][]cid.Cid{"a": {one, record}, "b": {two}, "c": {two, absent}} {
		if err := s.Pin(ctx, name, roots...); err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		name string
		do   func() error
		gone []cid.Cid
		left []cid.Cid
	}{
		{"nothing unpinned", func() error { return nil },
			[]cid.Cid{garbage}, []cid.Cid{one, two, record, files[0].Blocks[0], files[1].Blocks[0], files[2].Blocks[0]}},
		{"two names pin it, one goes", func() error { return s.Unpin(ctx, "b") },
			nil, []cid.Cid{two, files[1].Blocks[0], files[2].Blocks[0]}},
		{"the last name goes, one block is shared", func() error { return s.Unpin(ctx, "c", two) },
			[]cid.Cid{two, files[2].Blocks[0]}, []cid.Cid{one, files[1].Blocks[0]}},
		{"everything goes", func() error { return errors.Join(s.Unpin(ctx, "a"), s.Unpin(ctx, "c")) },
			[]cid.Cid{one, record, files[0].Blocks[0], files[1].Blocks[0]}, nil},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.GC(ctx); err != nil {
			t.Fatal(err)
		}
		for i, c := range step.gone {
			if has(t, s, c) {
				t.Errorf("%s: gone[%d] is there", step.name, i)
			}
		}
		for i, c := range step.left {
			if !has(t, s, c) {
				t.Errorf("%s: left[%d] is gone", step.name, i)
			}
		}
	}
	if st := s.Stats(); st.Blocks != 0 || st.Used != 0 {
		t.Errorf("%+v", st)
	}
}

// TestGCBesideWriters collects again and again while an import goes on under a pin and while known blocks are added and
// pinned without one.
func TestGCBesideWriters(t *testing.T) {
	s := openMem(t, Options{})
	ctx := t.Context()
	done := make(chan error, 2)
	go func() {
		p := s.Under("tmp/import")
		for i := range 30 {
			dir := &shard.Manifest{Version: 1, Kind: shard.KindModel, Name: fmt.Sprint(i)}
			f, err := shard.WriteFile(ctx, shard.Deferred(p), "f", bytes.NewReader(noise(uint64(i), 3000)))
			if err != nil {
				done <- err
				return
			}
			dir.Files = []shard.File{f}
			c, err := shard.SaveManifest(ctx, p, dir)
			if err == nil {
				err = errors.Join(s.Pin(ctx, "model", c), s.Unpin(ctx, "tmp/import"))
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	go func() {
		for i := range 100 {
			if _, err := s.Add(ctx, cid.Raw, noise(uint64(1000+i), 500)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for running := 2; running > 0; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running--
		default:
			if _, err := s.GC(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := s.GC(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if c := shard.Sum(cid.Raw, noise(uint64(i), 3000)); !has(t, s, c) {
			t.Errorf("block %d is gone", i)
		}
	}
	if st := s.Stats(); st.Blocks != 60 {
		t.Errorf("%+v, want 30 blocks and 30 manifests", st)
	}
}

// TestGCKeepsWhatComesMeanwhile stores and pins between mark and sweep.
func TestGCKeepsWhatComesMeanwhile(t *testing.T) {
	s := openMem(t, Options{})
	ctx := t.Context()
	block := noise(1, 100)
	f := shard.File{Path: "f", Size: 100, Blocks: []cid.Cid{add(t, s, cid.Raw, block)}}
	listed, err := shard.SaveManifest(ctx, s, &shard.Manifest{Version: 1, Kind: shard.KindModel, Files: []shard.File{f}})
	if err != nil {
		t.Fatal(err)
	}
	again, gone := add(t, s, cid.Raw, noise(2, 100)), add(t, s, cid.Raw, noise(3, 100))

	if err := s.beginGC(ctx); err != nil {
		t.Fatal(err)
	}
	live, err := s.mark(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Pin(ctx, "late", listed); err != nil {
		t.Fatal(err)
	}
	add(t, s, cid.Raw, noise(2, 100))
	var freed Freed
	if err := s.sweep(ctx, blockPrefix, live, &freed); err != nil {
		t.Fatal(err)
	}
	s.endGC()
	for name, c := range map[string]cid.Cid{"pinned manifest": listed, "its block": f.Blocks[0], "added again": again} {
		if !has(t, s, c) {
			t.Errorf("%s is gone", name)
		}
	}
	if has(t, s, gone) || freed.Blocks != 1 {
		t.Errorf("freed %+v", freed)
	}
}

func TestPinRefuses(t *testing.T) {
	s := openMem(t, Options{})
	c := shard.Sum(cid.Raw, nil)
	for _, name := range []string{"", "a\x00b", strings.Repeat("x", MaxPinName+1)} {
		if s.Pin(t.Context(), name, c) == nil || s.Unpin(t.Context(), name) == nil {
			t.Errorf("name %.10q got through", name)
		}
		if name != "" { // no name: no pin
			if _, err := s.Under(name).Add(t.Context(), cid.Raw, nil); err == nil {
				t.Errorf("Under(%.10q) got through", name)
			}
		}
	}
	if s.Pin(t.Context(), "x", cid.Undef) == nil {
		t.Error("an undefined identifier got through")
	}
	if err := errors.Join(s.Pin(t.Context(), "job/1", c), s.Pin(t.Context(), "job/1", c), s.Pin(t.Context(), "job/2", c), s.Pin(t.Context(), "z", c)); err != nil {
		t.Fatal(err)
	}
	pins, err := s.Pins(t.Context(), "job/")
	if err != nil || len(pins) != 2 || pins[0].Name != "job/1" || pins[1].Name != "job/2" {
		t.Errorf("%v, %v", pins, err)
	}
}

func TestKV(t *testing.T) {
	s := openMem(t, Options{})
	a, b := s.KV("a"), s.KV("a\x01") // neighbours in the key space
	index := func(i uint64) []byte { return binary.BigEndian.AppendUint64(nil, i) }
	for i := range uint64(10) {
		if err := a.Set(index(i), fmt.Appendf(nil, "v%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Set(index(3), []byte("other")); err != nil {
		t.Fatal(err)
	}
	batch := a.Batch() // what a log does when a new leader overwrites its end
	batch.DeleteRange(index(6), nil)
	batch.Set(index(6), []byte("new6"))
	batch.Delete(index(0))
	batch.Delete([]byte("never there"))
	if err := batch.Commit(); err != nil {
		t.Fatal(err)
	}
	list := func(kv *KV, lo, hi []byte) (got []string) {
		if err := kv.Scan(lo, hi, func(k, v []byte) bool {
			got = append(got, fmt.Sprintf("%d=%s", binary.BigEndian.Uint64(k), v))
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if d := cmp.Diff([]string{"1=v1", "2=v2", "3=v3", "4=v4", "5=v5", "6=new6"}, list(a, nil, nil)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"2=v2", "3=v3"}, list(a, index(2), index(4))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"3=other"}, list(b, nil, nil)); d != "" {
		t.Error(d)
	}
	if k, v, err := a.Last(nil, nil); err != nil || !bytes.Equal(k, index(6)) || string(v) != "new6" {
		t.Errorf("last: %x %s %v", k, v, err)
	}
	if k, _, err := a.Last(nil, index(5)); err != nil || !bytes.Equal(k, index(4)) {
		t.Errorf("last below 5: %x %v", k, err)
	}
	if _, _, err := a.Last(index(7), nil); !errors.Is(err, shard.ErrNotFound) {
		t.Errorf("last of nothing: %v", err)
	}
	if _, err := a.Get(index(0)); !errors.Is(err, shard.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	if err := a.Set(make([]byte, MaxKey+1), nil); err == nil {
		t.Error("a key too long got through")
	}
	if err := a.Set(nil, make([]byte, MaxValue+1)); err == nil {
		t.Error("a value too long got through")
	}
	stop := 0
	if err := a.Scan(nil, nil, func(k, _ []byte) bool { stop++; return a.Delete(k) == nil && stop < 2 }); err != nil || stop != 2 {
		t.Errorf("stopped after %d, %v", stop, err)
	}
}
