package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// acknowledged is what a store has promised so far.
type acknowledged struct {
	mu     sync.Mutex
	blocks map[uint64]bool   // seed of the block's bytes
	pins   map[uint64]bool   // seeds of pinned blocks
	values map[string]uint64 // last acknowledged value of each key
	failed int               // calls that returned an error
}

func newAcknowledged() *acknowledged {
	return &acknowledged{blocks: map[uint64]bool{}, pins: map[uint64]bool{}, values: map[string]uint64{}}
}

func (a *acknowledged) note(err error, f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.failed++
		return
	}
	f()
}

func (a *acknowledged) clone() *acknowledged {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := newAcknowledged()
	for k := range a.blocks {
		c.blocks[k] = true
	}
	for k := range a.pins {
		c.pins[k] = true
	}
	for k, v := range a.values {
		c.values[k] = v
	}
	return c
}

// largeHere lets half of the blocks of these tests lie in files of their own.
const largeHere = 10_000 // bytes

func blockSize(seed uint64) int { return int(seed * 7919 % 20000) }

func blockData(seed uint64) []byte { return noise(seed, blockSize(seed)) }

// work stores, pins and sets from three goroutines until every one did its steps or the store failed for good.
func work(ctx context.Context, s *Store, a *acknowledged, seed uint64, steps int) {
	var wg sync.WaitGroup
	for w := range uint64(3) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, w))
			for i := range uint64(steps) {
				step(ctx, s, a, rng, w, i)
			}
		})
	}
	wg.Wait()
}

func step(ctx context.Context, s *Store, a *acknowledged, rng *rand.Rand, w, i uint64) {
	id := w<<32 | i
	switch rng.IntN(6) {
	case 0, 1: // a block on its own; nobody collects in these tests
		_, err := s.Add(ctx, cid.Raw, blockData(id))
		a.note(err, func() { a.blocks[id] = true })
	case 2: // deferred blocks, made durable by the next write
		d := s.Deferred()
		_, err1 := d.Add(ctx, cid.Raw, blockData(id))
		_, err2 := d.Add(ctx, cid.Raw, blockData(id|1<<20))
		_, err3 := s.Add(ctx, cid.Raw, blockData(id)) // there already, but perhaps not on the disk
		a.note(errors.Join(err1, err2, err3), func() { a.blocks[id], a.blocks[id|1<<20] = true, true })
	case 3:
		_, err := s.Under("under").Add(ctx, cid.Raw, blockData(id))
		a.note(err, func() { a.blocks[id], a.pins[id] = true, true })
	default:
		key := fmt.Sprintf("%d/%d", w, rng.IntN(4))
		b := s.KV("log").Batch()
		b.Set([]byte(key), binary.BigEndian.AppendUint64(nil, i))
		b.Set([]byte(key+"/twin"), binary.BigEndian.AppendUint64(nil, i))
		a.note(b.Commit(), func() { a.values[key] = i })
	}
}

// check opens what a crash left and looks for everything that was acknowledged.
func (a *acknowledged) check(t *testing.T, fs vfs.FS) {
	t.Helper()
	s, err := Open("s", Options{fs: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.GC(t.Context()); len(a.pins) > 0 && err != nil { // pinned blocks outlive it
		t.Fatal(err)
	}
	for id := range a.pins {
		data, err := s.Get(t.Context(), shard.Sum(cid.Raw, blockData(id)))
		if err != nil || !bytes.Equal(data, blockData(id)) {
			t.Errorf("pinned block %x: %d bytes, %v", id, len(data), err)
		}
	}
	for key, want := range a.values {
		v, err := s.KV("log").Get([]byte(key))
		twin, err2 := s.KV("log").Get([]byte(key + "/twin"))
		if err != nil || err2 != nil || binary.BigEndian.Uint64(v) < want || !bytes.Equal(v, twin) {
			t.Errorf("%s: %x and %x, want at least %d, %v", key, v, twin, want, errors.Join(err, err2))
		}
	}
}

// checkBlocks is check for blocks that no pin protects, before anything collects.
func (a *acknowledged) checkBlocks(t *testing.T, fs vfs.FS) {
	t.Helper()
	s, err := Open("s", Options{fs: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for id := range a.blocks {
		data, err := s.Get(t.Context(), shard.Sum(cid.Raw, blockData(id)))
		if err != nil || !bytes.Equal(data, blockData(id)) {
			t.Errorf("block %x: %d bytes, %v", id, len(data), err)
		}
	}
}

// TestCrash cuts the file system at random operations of the database, together with a random part of what was not
// synced yet, and opens what is left.
//
// Tables in memory are small, so that log files change, files are made and compactions run all the time. In every other
// run garbage is collected meanwhile, and only what is pinned has to be there.
func TestCrash(t *testing.T) {
	runs := 60
	if testing.Short() {
		runs = 10
	}
	for run := range runs {
		t.Run(fmt.Sprint(run), func(t *testing.T) {
			collect := run%2 == 1
			seed := uint64(run)
			rng := rand.New(rand.NewPCG(seed, 99))
			mem := vfs.NewCrashableMem()
			a := newAcknowledged()
			var left *vfs.MemFS
			var promised *acknowledged
			cut := int64(20 + rng.IntN(1000)) // which operation; a run has about 1000
			var ops atomic.Int64
			fsys := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && ops.Add(1) == cut {
					promised = a.clone() // before the cut: what is acknowledged later may be lost
					left = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
				}
				return nil
			}))
			s, err := Open("s", Options{fs: fsys, memTable: 256 << 10, large: largeHere, segment: 100_000})
			if err != nil {
				t.Fatal(err)
			}
			stop := collecting(t, s, collect)
			work(t.Context(), s, a, seed, 60)
			stop()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if left == nil {
				promised, left = a.clone(), mem.CrashClone(vfs.CrashCloneCfg{})
			}
			if !collect {
				promised.checkBlocks(t, left)
			}
			promised.check(t, left)
		})
	}
}

// collecting runs GC again and again until the returned function is called.
func collecting(t *testing.T, s *Store, on bool) (stop func()) {
	if !on {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			default:
				if _, err := s.GC(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	return func() { close(quit); <-done }
}

// TestKilledProcess kills a process that writes to a real disk as fast as it can.
func TestKilledProcess(t *testing.T) {
	const env = "SHOAL_TEST_WRITE_STORE"
	if dir := os.Getenv(env); dir != "" {
		s, err := Open(dir, Options{Reserve: -1, memTable: 256 << 10, large: largeHere})
		for id := uint64(0); err == nil; id++ {
			if _, err = s.Add(context.Background(), cid.Raw, blockData(id)); err == nil {
				fmt.Println("stored", id)
			}
		}
		fmt.Println(err)
		return
	}
	dir := filepath.Join(t.TempDir(), "store")
	writer := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
	writer.Env = append(os.Environ(), env+"="+dir)
	out, err := writer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	stored := 0
	for stored < 100 && lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "stored") {
			t.Fatal(lines.Text())
		}
		stored++
	}
	writer.Process.Kill()
	for lines.Scan() && strings.HasPrefix(lines.Text(), "stored") {
		stored++
	}
	writer.Wait()
	s, err := Open(dir, Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for id := range uint64(stored) {
		if data, err := s.Get(t.Context(), shard.Sum(cid.Raw, blockData(id))); err != nil || !bytes.Equal(data, blockData(id)) {
			t.Errorf("block %d of %d: %d bytes, %v", id, stored, len(data), err)
		}
	}
}

// brokenDisk is a file system some of whose operations can be made to fail.
type brokenDisk struct {
	vfs.FS
	broken *atomic.Bool
	err    error
}

// newBrokenDisk lets the operations that match fail with err while the disk is broken.
func newBrokenDisk(mem *vfs.MemFS, err error, match func(errorfs.Op) bool) brokenDisk {
	broken := &atomic.Bool{}
	fail := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && match(op) {
			return err
		}
		return nil
	})
	return brokenDisk{errorfs.Wrap(mem, fail), broken, err}
}

// takesRoom matches what fails on a full disk: file systems set room aside when data is written, not when it is synced.
func takesRoom(op errorfs.Op) bool {
	switch op.Kind {
	case errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpReuseForWrite:
		return true
	}
	return false
}

// ReuseForWrite makes a new file instead: errorfs forgets to break recycled log files.
func (d brokenDisk) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.FS.Remove(oldname); err != nil {
		return nil, err
	}
	return d.FS.Create(newname, category)
}

func (d brokenDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	if d.broken.Load() && d.err == syscall.ENOSPC {
		return vfs.DiskUsage{}, nil
	}
	return vfs.DiskUsage{AvailBytes: 1 << 40, TotalBytes: 1 << 40}, nil
}

// TestFullDisk lets the disk run full under three writers: writes under way wait, new ones say so, and when there is
// room again everything goes on.
func TestFullDisk(t *testing.T) {
	mem := vfs.NewCrashableMem()
	disk := newBrokenDisk(mem, syscall.ENOSPC, takesRoom)
	s, err := Open("s", Options{fs: disk, retry: time.Millisecond, memTable: 256 << 10, large: largeHere, segment: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	a := newAcknowledged()
	work(t.Context(), s, a, 1, 20)
	disk.broken.Store(true)

	waiting := make(chan error, 1)
	go func() { // gets past the check because nobody asked for room yet
		waiting <- s.write(context.Background(), durable, rawSet("under way"))
	}()
	for !s.disk.waiting() {
		if _, err := s.Add(t.Context(), cid.Raw, []byte("x")); !errors.Is(err, shard.ErrFull) {
			t.Fatalf("Add on a full disk: %v", err)
		}
	}
	for _, size := range []int{1, 2 * largeHere} {
		if _, err := s.Add(t.Context(), cid.Raw, noise(3, size)); !errors.Is(err, shard.ErrFull) {
			t.Fatalf("Add of %d bytes on a full disk: %v", size, err)
		}
	}
	if err := s.KV("log").Set([]byte("x"), []byte("y")); !errors.Is(err, shard.ErrFull) {
		t.Fatalf("Set on a full disk: %v", err)
	}
	if _, err := s.KV("log").Get([]byte("x")); !errors.Is(err, shard.ErrNotFound) {
		t.Fatalf("Get on a full disk: %v", err)
	}
	if err := s.Close(); !errors.Is(err, shard.ErrFull) {
		t.Fatalf("Close on a full disk: %v", err)
	}
	promised, left := a.clone(), mem.CrashClone(vfs.CrashCloneCfg{})
	promised.checkBlocks(t, left)

	disk.broken.Store(false)
	if err := <-waiting; err != nil && !errors.Is(err, shard.ErrFull) { // ErrFull: the database met the full disk first
		t.Fatalf("the write that waited: %v", err)
	}
	for s.disk.waiting() {
		runtime.Gosched()
	}
	work(t.Context(), s, a, 2, 20)
	if a.failed > 0 {
		t.Errorf("%d calls failed with room on the disk", a.failed)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	a.checkBlocks(t, mem)
	a.check(t, mem)
}

// rawSet is a write that asks for no room first.
func rawSet(value string) func(*pebble.Batch) error {
	return func(b *pebble.Batch) error { return b.Set([]byte("kraw\x00"), []byte(value), nil) }
}

// TestReserve stops blocks first, then tables, before the disk is full.
func TestReserve(t *testing.T) {
	var avail atomic.Uint64
	avail.Store(1 << 30)
	s := openMem(t, Options{Reserve: 100 << 20, fs: sizedDisk{vfs.NewMem(), &avail}})
	kv := s.KV("log")
	for _, tc := range []struct {
		avail         uint64
		blocks, table bool
	}{
		{101 << 20, true, true},
		{99 << 20, false, true},
		{26 << 20, false, true},
		{24 << 20, false, false},
		{0, false, false},
		{1 << 30, true, true},
	} {
		avail.Store(tc.avail)
		_, err := s.Add(t.Context(), cid.Raw, binary.BigEndian.AppendUint64(nil, tc.avail))
		if ok := err == nil; ok != tc.blocks || !ok && !errors.Is(err, shard.ErrFull) {
			t.Errorf("%d MiB, block: %v", tc.avail>>20, err)
		}
		err = kv.Set([]byte("k"), []byte("v"))
		if ok := err == nil; ok != tc.table || !ok && !errors.Is(err, shard.ErrFull) {
			t.Errorf("%d MiB, table: %v", tc.avail>>20, err)
		}
		if err := kv.Delete([]byte("other")); err != nil {
			t.Errorf("%d MiB, delete: %v", tc.avail>>20, err)
		}
	}
	avail.Store(0)
	if _, err := Open("elsewhere", Options{fs: sizedDisk{vfs.NewMem(), &avail}}); !errors.Is(err, shard.ErrFull) {
		t.Errorf("Open on a full disk: %v", err)
	}
}

type sizedDisk struct {
	vfs.FS
	avail *atomic.Uint64
}

func (d sizedDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: d.avail.Load()}, nil
}

// TestBrokenDisk lets a dying disk fail where the database cannot go on: in the log that each commit is written to, and
// in the list of its files, which its background work writes. The store says so from then on and hangs nowhere, and what
// it acknowledged before is there.
func TestBrokenDisk(t *testing.T) {
	for name, pattern := range map[string]string{"log": "*.log", "list of files": "MANIFEST-*", "large blocks": "*.seg"} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			disk := newBrokenDisk(mem, syscall.EIO, func(op errorfs.Op) bool {
				match, err := filepath.Match(pattern, filepath.Base(op.Path))
				return err == nil && match && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileWriteAt)
			})
			s, err := Open("s", Options{fs: disk, Reserve: -1, memTable: 2 << 20, large: largeHere})
			if err != nil {
				t.Fatal(err)
			}
			a := newAcknowledged()
			work(t.Context(), s, a, 1, 20)
			disk.broken.Store(true)
			if name == "list of files" {
				go s.db.Flush() // hangs, as background work does
			}
			data := append([]byte(name), make([]byte, largeHere)...)
			_, err = s.Add(t.Context(), cid.Raw, data)
			if name != "list of files" && err == nil {
				t.Fatal("a block was acknowledged that is not on the disk")
			}
			<-s.Failed()
			before := a.clone()
			work(t.Context(), s, a, 2, 20)
			if len(a.blocks) > len(before.blocks) {
				t.Errorf("%d blocks acknowledged by a broken disk", len(a.blocks)-len(before.blocks))
			}
			_, err1 := s.Get(t.Context(), shard.Sum(cid.Raw, data))
			_, err2 := s.GC(t.Context())
			for _, err := range []error{err1, err2, s.KV("x").Delete(nil), s.Close()} {
				if !errors.Is(err, s.Err()) {
					t.Errorf("after the failure: %v", err)
				}
			}
			before.checkBlocks(t, mem.CrashClone(vfs.CrashCloneCfg{}))
		})
	}
}
