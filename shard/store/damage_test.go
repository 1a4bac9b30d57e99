package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// stored opens a store on the disk whose blocks and table lie in files that it has not opened since: the database keeps
// no value of theirs in memory.
func stored(t *testing.T) (s *Store, dir string, blocks []cid.Cid) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "store")
	s, err := Open(dir, Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		blocks = append(blocks, add(t, s.Deferred(), cid.Raw, noise(uint64(i), 6000)))
	}
	err = errors.Join(s.Pin(t.Context(), "x", blocks[0]), s.KV("a").Set([]byte("k"), []byte("v")), s.db.Flush(), s.Close())
	if err != nil {
		t.Fatal(err)
	}
	if s, err = Open(dir, Options{Reserve: -1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.Close(); s.Err() != nil {
			s.closeDB() // or it writes to the directory that the test's end removes
		}
	})
	return s, dir, blocks
}

// each calls f with the store's files whose name matches pattern; at least one must.
func each(t *testing.T, dir, pattern string, f func(path string) error) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("%d files match %s: %v", len(names), pattern, err)
	}
	for _, name := range names {
		if err := f(name); err != nil {
			t.Fatal(err)
		}
	}
}

func garble(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, noise(99, int(info.Size())), 0o600)
}

func truncate(path string) error { return os.Truncate(path, 5) }

// rot spoils the values and leaves the file's end as it is.
func rot(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	copy(data, noise(98, len(data)-200))
	return os.WriteFile(path, data, 0o600)
}

func saysDamaged(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, shard.ErrCorrupt) || !strings.Contains(err.Error(), "is damaged") || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("%s: %v", what, err)
	}
}

// TestDamageWhileOpen takes the files from under an open store. No call panics or hangs, no block is wrong.
func TestDamageWhileOpen(t *testing.T) {
	for _, tc := range []struct {
		name, pattern string
		damage        func(string) error
		ends          bool // the store's work
	}{
		{"all gone", "", os.RemoveAll, true},
		{"values gone", "*.blob", os.Remove, true},
		{"values garbled", "*.blob", garble, true},
		{"values cut", "*.blob", truncate, true},
		{"values rotten", "*.blob", rot, false},
		{"keys gone", "*.sst", os.Remove, true},
		{"keys garbled", "*.sst", garble, false},
		{"keys cut", "*.sst", truncate, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, dir, blocks := stored(t)
			each(t, dir, tc.pattern, tc.damage)
			for i, c := range blocks {
				if data, err := s.Get(t.Context(), c); err == nil && !bytes.Equal(data, noise(uint64(i), 6000)) {
					t.Errorf("block %d is wrong", i)
				} else if err != nil {
					saysDamaged(t, "Get", err)
				}
			}
			for name, err := range everyCall(t, s, blocks) {
				if err != nil {
					saysDamaged(t, name, err)
				}
			}
			if ended := s.Err() != nil; ended != tc.ends {
				t.Errorf("failed: %v", s.Err())
			}
			s.Close()
		})
	}
}

func everyCall(t *testing.T, s *Store, blocks []cid.Cid) map[string]error {
	ctx, kv, errs := t.Context(), s.KV("a"), map[string]error{}
	_, errs["Has"] = s.Has(ctx, blocks[1])
	_, errs["KV.Get"] = kv.Get([]byte("k"))
	errs["Scan"] = kv.Scan(nil, nil, func(k, v []byte) bool { return true })
	_, _, errs["Last"] = kv.Last(nil, nil)
	_, errs["Pins"] = s.Pins(ctx, "")
	_, errs["Add"] = s.Add(ctx, cid.Raw, []byte("new"))
	errs["Set"] = kv.Set([]byte("k2"), nil)
	errs["Pin"] = s.Pin(ctx, "y", blocks[2])
	errs["Unpin"] = s.Unpin(ctx, "y")
	_, errs["GC"] = s.GC(ctx)
	return errs
}

// TestDamageInTheBackground has the database's own goroutines meet files of values that they must copy: it does so when
// keys that lie side by side would have their values in too many files.
func TestDamageInTheBackground(t *testing.T) {
	for name, damage := range map[string]func(string) error{"gone": os.Remove, "garbled": garble, "cut": truncate} {
		t.Run(name, func(t *testing.T) {
			s, dir, _ := stored(t)
			each(t, dir, "*.blob", damage)
			for i := range 30 {
				for j := range 4 {
					if _, err := s.Deferred().Add(t.Context(), cid.Raw, noise(uint64(100+4*i+j), 6000)); err != nil {
						saysDamaged(t, "Add", err)
					}
				}
				s.db.Flush()
			}
			saysDamaged(t, "compact", s.compact(t.Context()))
			saysDamaged(t, "the store", s.Err())
		})
	}
}

func TestOpenDamaged(t *testing.T) {
	for _, tc := range []struct {
		name, pattern string
		damage        func(string) error
	}{
		{"mark gone", "marker.manifest.*", os.Remove},
		{"mark of the format gone", "marker.format-version.*", os.Remove},
		{"all marks gone", "marker.*", os.Remove},
		{"manifest gone", "MANIFEST-*", os.Remove},
		{"manifest garbled", "MANIFEST-*", garble},
		{"manifest cut", "MANIFEST-*", truncate},
		{"manifest empty", "MANIFEST-*", func(p string) error { return os.Truncate(p, 0) }},
		{"keys gone", "*.sst", os.Remove},
		{"keys garbled", "*.sst", garble},
		{"keys cut", "*.sst", truncate},
		{"values gone", "*.blob", os.Remove},
		{"values cut", "*.blob", truncate},
		{"values garbled", "*.blob", garble},
		{"options garbled", "OPTIONS-*", garble},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, dir, blocks := stored(t)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			each(t, dir, tc.pattern, tc.damage)
			s, err := Open(dir, Options{Reserve: -1})
			if err == nil { // it reads no values before somebody asks
				defer s.Close()
				_, err = s.Get(t.Context(), blocks[7])
			}
			saysDamaged(t, "Open", err)
		})
	}
}

// TestPanicOfVisitor is not the disk's doing.
func TestPanicOfVisitor(t *testing.T) {
	s := openMem(t, Options{})
	if err := s.KV("a").Set([]byte("k"), nil); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if p := recover(); p != "mine" || s.Err() != nil {
			t.Errorf("recovered %v, failed: %v", p, s.Err())
		}
	}()
	s.KV("a").Scan(nil, nil, func(k, v []byte) bool { panic("mine") })
}

// TestPanicOfDatabase ends the store's work and nothing else.
func TestPanicOfDatabase(t *testing.T) {
	s, err := Open("s", Options{fs: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	err = s.write(t.Context(), durable, func(*pebble.Batch) error { panic("theirs") })
	saysDamaged(t, "write", err)
	<-s.Failed()
	_, err = s.Get(t.Context(), shard.Sum(cid.Raw, nil))
	saysDamaged(t, "Get", err)
	if err := s.db.Close(); err != nil { // Close leaves it as it is
		t.Error(err)
	}
}

// TestRottenValue reads a block whose bytes on the disk changed: it is an error, not an empty block.
func TestRottenValue(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := Open(dir, Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	c := add(t, s, cid.Raw, noise(1, 6000))
	if err := errors.Join(s.db.Flush(), s.Close()); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.blob"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%d files of values: %v", len(names), err)
	}
	if err := rot(names[0]); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(dir, Options{Reserve: -1}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if data, err := s.Get(t.Context(), c); !errors.Is(err, shard.ErrCorrupt) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if err := s.Drop(t.Context(), c); err != nil || s.Stats().Blocks != 0 || s.Stats().Used != 0 {
		t.Errorf("drop: %v, then %+v", err, s.Stats())
	}
	if err := errors.Join(s.Drop(t.Context(), c), s.PutLater(t.Context(), c, noise(1, 6000)), s.Sync(t.Context())); err != nil {
		t.Fatal(err)
	}
	if data, err := s.GetInto(t.Context(), c, make([]byte, 0, 6000)); err != nil || !bytes.Equal(data, noise(1, 6000)) {
		t.Errorf("healed: %d bytes, %v", len(data), err)
	}
	if _, err := s.GC(t.Context()); err != nil {
		t.Errorf("gc beside what is rotten: %v", err)
	}
}
