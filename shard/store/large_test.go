package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// TestFormat1 opens a store that an older shoal left: its blocks lie in the database, large ones too.
func TestFormat1(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "format1"))); err != nil {
		t.Fatal(err)
	}
	old := bytes.Repeat([]byte("large block "), 10000)
	check := func(s *Store) {
		for _, want := range [][]byte{old, []byte("in the log")} {
			got, err := s.Get(t.Context(), shard.Sum(cid.Raw, want))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%.20q…: %d bytes, %v", want, len(got), err)
			}
		}
		if v, err := s.KV("a").Get([]byte("k")); err != nil || string(v) != "v" {
			t.Errorf("value: %q, %v", v, err)
		}
	}
	s, err := Open(dir, Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	check(s)
	before := s.Stats()
	add(t, s, cid.Raw, old) // there already
	large := add(t, s, cid.Raw, noise(1, 100_000))
	if st := s.Stats(); st.Blocks != before.Blocks+1 || st.Used != before.Used+100_000 {
		t.Errorf("%+v, then %+v", before, st)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(dir, Options{Reserve: -1}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	check(s)
	if data, err := s.Get(t.Context(), large); err != nil || !bytes.Equal(data, noise(1, 100_000)) {
		t.Errorf("a new block: %d bytes, %v", len(data), err)
	}
	if err := errors.Join(s.Unpin(t.Context(), "keep"), s.Drop(t.Context(), large)); err != nil {
		t.Fatal(err)
	}
	if freed, err := s.GC(t.Context()); err != nil || freed != (Freed{2, int64(len(old)) + 10}) || s.Stats().Blocks != 0 || s.Stats().Used != 0 {
		t.Errorf("%+v, %v, then %+v", freed, err, s.Stats())
	}
}

// onDisk is what the files of large blocks take, bytes.
func onDisk(t *testing.T, fsys vfs.FS, dir string) (total int64) {
	t.Helper()
	names, err := fsys.List(segmentsIn(dir, fsys))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := fsys.Stat(fsys.PathJoin(segmentsIn(dir, fsys), name))
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	return total
}

// TestLargeBlocksGC collects most blocks of some files, all of others and none of the rest, under readers, and looks
// that the disk has its space back.
func TestLargeBlocksGC(t *testing.T) {
	mem := vfs.NewMem()
	s := openMem(t, Options{fs: mem, large: 1000, segment: 10 * sector})
	var kept []cid.Cid
	for i := range 100 {
		c := add(t, s.Deferred(), cid.Raw, noise(uint64(i), sector))
		if i >= 80 || i >= 40 && i%10 == 0 {
			kept = append(kept, c)
		}
	}
	if err := errors.Join(s.Pin(t.Context(), "x", kept...), s.Sync(t.Context())); err != nil {
		t.Fatal(err)
	}
	if n := onDisk(t, mem, "home/store"); n != 100*sector {
		t.Errorf("%d bytes on the disk", n)
	}
	readers, stop := readAll(t, s, kept)
	freed, err := s.GC(t.Context())
	stop()
	readers.Wait()
	if want := int64(100 - len(kept)); err != nil || freed != (Freed{int(want), want * sector}) {
		t.Errorf("%+v, %v", freed, err)
	}
	if n := onDisk(t, mem, "home/store"); n != int64(len(kept))*sector {
		t.Errorf("%d bytes on the disk for %d blocks", n, len(kept))
	}
	if freed, err := s.GC(t.Context()); err != nil || freed != (Freed{}) {
		t.Errorf("again: %+v, %v", freed, err)
	}
	for _, c := range kept {
		if _, err := s.Get(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
}

// TestPastTheCache stores blocks that go past the system's cache and others that do not, side by side on a real disk,
// and reads them either way, whatever memory is given.
func TestPastTheCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	sizes := []int{1 << 20, 1<<20 - 1, 64 << 10, 64<<10 + 5, 17 * sector, 1 << 20}
	memory := make([]byte, 2<<20) // begins at a page, as all large slices do
	for pass := range 2 {         // as written, and from the files of another process
		s, err := Open(dir, Options{Reserve: -1, segment: 3 << 20})
		if err != nil {
			t.Fatal(err)
		}
		for i, size := range sizes {
			data := memory[i%2*7:][:size] // every other one lies off the sectors
			copy(data, noise(uint64(i), size))
			c := add(t, s.Deferred(), cid.Raw, data)
			for _, buf := range [][]byte{nil, memory[:0], memory[: 0 : size-1], memory[3:3]} {
				if got, err := s.GetInto(t.Context(), c, buf); err != nil || !bytes.Equal(got, noise(uint64(i), size)) {
					t.Errorf("pass %d, block %d: %d bytes, %v", pass, i, len(got), err)
				}
			}
		}
		if pass == 0 && s.large.active.past == nil {
			t.Log("this file system knows no way past the cache")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// readAll reads blocks again and again until stop is called.
func readAll(t *testing.T, s *Store, blocks []cid.Cid) (wg *sync.WaitGroup, stop func()) {
	wg = &sync.WaitGroup{}
	quit := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-quit:
					return
				default:
				}
				c := blocks[i%len(blocks)]
				if data, err := s.Get(t.Context(), c); err != nil || shard.Check(c, data) != nil {
					t.Errorf("%d bytes, %v", len(data), err)
					return
				}
			}
		})
	}
	return wg, func() { close(quit) }
}

// TestTornLargeBlocks loses power after blocks were put for later. Some of their bytes reached the disk, as did some of
// what the database knows; each block is whole or away, and can be put again.
func TestTornLargeBlocks(t *testing.T) {
	away := 0
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		mem := vfs.NewCrashableMem()
		o := Options{fs: mem, large: 1000, segment: 50_000}
		s, err := Open("s", o)
		if err != nil {
			t.Fatal(err)
		}
		var early, late []cid.Cid
		for i := range uint64(10) {
			early = append(early, add(t, s, cid.Raw, noise(i, 9000)))
			late = append(late, add(t, s.Deferred(), cid.Raw, noise(100+i, 9000)))
		}
		for i := range uint64(10) {
			late = append(late, add(t, s.Deferred(), cid.Raw, noise(200+i, 9000)))
		}
		if err := s.KV("a").Set([]byte("k"), []byte("v")); err != nil { // the log reaches the disk, the blocks need not
			t.Fatal(err)
		}
		o.fs = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 { // as the crash left it, and after a clean close
			if s, err = Open("s", o); err != nil {
				t.Fatal(err)
			}
			for _, c := range early {
				if data, err := s.Get(t.Context(), c); err != nil || shard.Check(c, data) != nil {
					t.Errorf("seed %d: %d bytes, %v", seed, len(data), err)
				}
			}
			for _, c := range late {
				data, err := s.Get(t.Context(), c)
				if errors.Is(err, shard.ErrNotFound) {
					away++
				} else if err != nil || shard.Check(c, data) != nil {
					t.Errorf("seed %d: %d bytes, %v", seed, len(data), err)
				}
			}
			for i := range uint64(10) {
				add(t, s, cid.Raw, noise(200+i, 9000))
			}
			if st := s.Stats(); st.Used != st.Blocks*9000 {
				t.Errorf("seed %d: %+v", seed, st)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if away == 0 {
		t.Error("no crash tore anything")
	}
}

// TestLargeBlocksOfTwoWriters puts the same blocks from both sides, while they are collected.
func TestLargeBlocksOfTwoWriters(t *testing.T) {
	s := openMem(t, Options{large: 1000, segment: 20_000})
	stop := collecting(t, s, true)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range uint64(200) {
				if _, err := s.Under("x").Add(t.Context(), cid.Raw, noise(i%50, 3000)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	stop()
	if st := s.Stats(); st.Blocks != 50 || st.Used != 150_000 {
		t.Errorf("%+v", st)
	}
	for i := range uint64(50) {
		if data, err := s.Get(t.Context(), shard.Sum(cid.Raw, noise(i, 3000))); err != nil || !bytes.Equal(data, noise(i, 3000)) {
			t.Errorf("block %d: %d bytes, %v", i, len(data), err)
		}
	}
}

// TestDamagedLargeBlocks takes the files of large blocks from under a store, open and closed: what was in them is missed, by
// Open or by who reads it, and can be stored anew.
func TestDamagedLargeBlocks(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(string) error
		missed bool // by Open
	}{
		{"gone", os.Remove, true},
		{"cut", truncate, true},
		{"rotten", rot, false},
	} {
		for _, open := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, open %v", tc.name, open), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "store")
				s, err := Open(dir, Options{Reserve: -1, large: 1000})
				if err != nil {
					t.Fatal(err)
				}
				c := add(t, s, cid.Raw, noise(1, 6000))
				small := add(t, s, cid.Raw, []byte("small"))
				if !open {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
				}
				each(t, filepath.Join(dir, segmentsDir), "*.seg", tc.damage)
				if !open {
					if s, err = Open(dir, Options{Reserve: -1, large: 1000}); err != nil {
						t.Fatal(err)
					}
				}
				defer func() { s.Close() }()
				data, err := s.Get(t.Context(), c)
				if missed := tc.missed && !open; missed != errors.Is(err, shard.ErrNotFound) || missed == errors.Is(err, shard.ErrCorrupt) || s.Err() != nil {
					t.Errorf("%d bytes, %v; the store: %v", len(data), err, s.Err())
				} else if lost := s.Lost(); missed != (len(lost.Files) == 1 && len(lost.Blocks) == 1 && lost.Bytes == 6000) {
					t.Errorf("%+v", lost)
				}
				if _, err := s.Get(t.Context(), small); err != nil {
					t.Error(err)
				}
				for range 2 { // now, and after a restart
					if again := add(t, s, cid.Raw, noise(1, 6000)); again != c {
						t.Error(again)
					}
					if data, err := s.Get(t.Context(), c); err != nil || !bytes.Equal(data, noise(1, 6000)) {
						t.Errorf("healed: %d bytes, %v", len(data), err)
					}
					if st := s.Stats(); st.Blocks != 2 || st.Used != 6005 {
						t.Errorf("%+v", st)
					}
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					if s, err = Open(dir, Options{Reserve: -1, large: 1000}); err != nil || len(s.Lost().Files) > 0 {
						t.Fatalf("%v %+v", err, s.Lost())
					}
				}
			})
		}
	}
}

// TestDatabaseGoneBesideLargeBlocks refuses to take the files of large blocks for those of an empty store.
func TestDatabaseGoneBesideLargeBlocks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := Open(dir, Options{Reserve: -1, large: 1000})
	if err != nil {
		t.Fatal(err)
	}
	add(t, s, cid.Raw, noise(1, 6000))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	each(t, dir, "*[^s]", func(path string) error { return os.RemoveAll(path) }) // all but blocks
	_, err = Open(dir, Options{Reserve: -1})
	saysDamaged(t, "Open", err)
}

// TestPlaceOfAnotherKind refuses a value that is no place.
func TestPlaceOfAnotherKind(t *testing.T) {
	mem := vfs.NewMem()
	s, err := Open("s", Options{fs: mem})
	if err != nil {
		t.Fatal(err)
	}
	c := shard.Sum(cid.Raw, nil)
	if err := s.db.Set(placeKey(c), make([]byte, placeSize-1), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), c); !errors.Is(err, shard.ErrCorrupt) {
		t.Errorf("Get: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("s", Options{fs: mem}); !errors.Is(err, shard.ErrCorrupt) {
		t.Errorf("Open: %v", err)
	}
}

func FuzzPlace(f *testing.F) {
	f.Add(place{segment: 1, offset: 2, size: 3, sum: 4, epoch: 5}.encode())
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := decodePlace(b); err == nil && !bytes.Equal(p.encode(), b) {
			t.Errorf("%x became %x", b, p.encode())
		}
	})
}
