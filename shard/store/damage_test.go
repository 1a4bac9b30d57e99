package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// rot spoils the values and leaves the file's end as it is.
func rot(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	copy(data, noise(98, len(data)-200))
	return os.WriteFile(path, data, 0o600)
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
}
