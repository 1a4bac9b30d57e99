// Package store keeps blocks and small facts on disk, in Pebble.
//
// Four things lie in one database, each under its own key prefix: blocks (by CID), pins (names that protect blocks from
// garbage collection), key-value areas that other parts of a node use for their tables and logs, and the store's format
// version. Of large blocks the database has only the place; they lie in files beside it (segments). A block is hashed
// once, on its way in; afterwards checksums guard it, the database's or the place's.
//
// Acknowledged means durable: a Put, Add, Pin, Set or Commit that returned without error survives a crash at any
// instant. Concurrent calls share their fsync. The exception is by name: what Deferred returns (see shard.Deferrer).
//
// Space. Blocks count against a quota. Before the disk itself is full the store refuses blocks (shard.ErrFull) and keeps
// a reserve, so that what is under way can be finished, and a part of that for the key-value areas. Should the disk
// run full all the same, writes under way wait until there is room again and new ones return shard.ErrFull: nothing
// crashes and nothing acknowledged is lost. A disk that fails, as when an fsync reports an error, ends the store's work
// (see Failed). So do files of the database that are gone or hold something else: a call that meets them returns a
// shard.ErrCorrupt which says what to do, and so does Open. A large block that is rotten, or whose file is cut or gone, ends
// nothing: to read it is a shard.ErrCorrupt until it is stored anew or dropped, and Open drops what it misses (see Lost).
//
// A Store is safe for concurrent use. One process at a time may have it open.
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// ErrLocked says that another process has the store open.
var ErrLocked = errors.New("store is in use by another process")

// ErrClosed is returned by calls after Close.
var ErrClosed = errors.New("store is closed")

// formatVersion is the layout of keys and values that this package writes. It refuses others.
const formatVersion = "2"

// oldFormat has every block in the database. It is read as it is and becomes the new one when it is opened; its blocks stay
// where they are.
const oldFormat = "1"

// Options tune a store. The zero value serves.
type Options struct {
	Quota   int64        // bytes of blocks, 0: no limit but the disk
	Reserve int64        // bytes of disk that blocks leave free; default 256 MiB, negative: none
	Log     *slog.Logger // what the database says; nil: nobody listens

	fs       vfs.FS        // tests run on a file system that breaks; nil: the real one
	retry    time.Duration // how often a full disk is looked at again; default 1 s
	memTable uint64        // bytes collected in memory before they become a file; default 2 MiB
	large    int           // bytes from which on a block does not lie in the database; default 64 KiB
	segment  int64         // bytes of a file of large blocks; default 64 MiB
}

// Store is an open block store.
type Store struct {
	db    *pebble.DB
	large *segments
	from  int // bytes of a large block
	lock  *pebble.Lock
	disk  *disk
	log   *slog.Logger
	lost  Lost      // since before Open
	bufs  sync.Pool // of *[shard.MaxBlock]byte

	quota  int64
	used   atomic.Int64 // bytes of blocks
	blocks atomic.Int64

	life   sync.Mutex
	closed bool           // guarded by life
	calls  sync.WaitGroup // calls under way; Add is guarded by life

	// turn holds one token: who has it may write. It guards the order of writes, seq, recorded and keep. It is a channel so that
	// waiting for it can be given up.
	turn     chan struct{}
	seq      uint64               // writes applied so far
	synced   atomic.Uint64        // writes known to be durable: all up to this one
	recorded uint64               // the epoch of segments that the database knows to be durable
	keep     map[cid.Cid]struct{} // while GC runs: blocks that came or were pinned meanwhile; else nil

	failed chan struct{} // closed when the database gave up
	once   sync.Once
	err    error // why; set before failed is closed
}

// Open opens or creates the store in dir.
func Open(dir string, o Options) (*Store, error) {
	if o.fs == nil {
		o.fs = vfs.Default
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Reserve == 0 {
		o.Reserve = 256 << 20
	}
	if o.retry == 0 {
		o.retry = time.Second
	}
	if o.memTable == 0 {
		o.memTable = 2 << 20 // an idle node keeps up to four logs of that size, and what is large does not pass here
	}
	if o.large == 0 {
		o.large = 64 << 10
	}
	if o.segment == 0 {
		o.segment = 64 << 20
	}
	s := &Store{log: o.Log, from: o.large, quota: o.Quota, turn: make(chan struct{}, 1), failed: make(chan struct{})}
	s.disk = newDisk(o.fs, dir, max(o.Reserve, 0), o.retry)
	if err := s.open(dir, o); err != nil {
		if s.db != nil {
			err = errors.Join(err, s.closeDB())
		}
		if s.lock != nil {
			err = errors.Join(err, s.lock.Close())
		}
		if damaged := (*damage)(nil); errors.As(err, &damaged) {
			return nil, damaged
		}
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) open(dir string, o Options) (err error) {
	if err := o.fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := s.disk.room(1<<20, s.disk.least()); err != nil {
		return err // the database would wait for room, and nobody would learn why
	}
	if s.lock, err = lockDir(dir, o.fs); err != nil {
		return err
	}
	if err = s.openDB(dir, o); isDamage(err) && !errors.Is(err, shard.ErrCorrupt) {
		return &damage{dir, err}
	}
	return err
}

func (s *Store) openDB(dir string, o Options) (err error) {
	defer s.guard(&err)
	names, err := o.fs.List(dir)
	if err != nil {
		return err
	}
	if err := checkMarker(dir, names, segmentsIn(dir, o.fs), o.fs); err != nil {
		return err
	}
	fsys := &files{FS: o.fs, lost: s.damaged}
	if s.db, err = pebble.Open(dir, s.options(o, fsys)); err != nil {
		return err
	}
	if err := s.checkValueFiles(names, fsys); err != nil {
		return err
	}
	if err := s.checkVersion(); err != nil {
		return err
	}
	if err := s.openSegments(dir, o); err != nil {
		return err
	}
	return s.count()
}

func lockDir(dir string, fsys vfs.FS) (*pebble.Lock, error) {
	lock, err := pebble.LockDirectory(dir, fsys)
	var denied *fs.PathError // the lock file cannot even be made
	if err == nil || errors.As(err, &denied) {
		return lock, err
	}
	return nil, fmt.Errorf("%w: stop the other shoal or use another home (%w)", ErrLocked, err)
}

// options are the settings measured to suit blocks of up to 1 MiB that hardly compress: values are kept apart from keys,
// so that compactions move keys alone (write amplification 2 instead of 4.6).
func (s *Store) options(o Options, fsys vfs.FS) *pebble.Options {
	p := &pebble.Options{
		FS:                 vfs.OnDiskFull(fsys, s.disk.waitForRoom),
		Lock:               s.lock,
		FormatMajorVersion: pebble.FormatValueSeparation, // explicit: upgrades are one way
		MemTableSize:       o.memTable,
		CacheSize:          16 << 20,
		MaxOpenFiles:       256,
		Logger:             (*logger)(s),
		EventListener:      &pebble.EventListener{DataCorruption: func(i pebble.DataCorruptionInfo) { s.log.Error("store", "corruption", i.String()) }},
	}
	p.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{Enabled: true, MinimumSize: 4096, MaxBlobReferenceDepth: 10,
			TargetGarbageRatio: 0.2, RewriteMinimumAge: time.Minute}
	}
	p.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return p
}

func (s *Store) checkVersion() error {
	v, err := s.copyOf(versionKey)
	if errors.Is(err, pebble.ErrNotFound) || string(v) == oldFormat {
		return s.db.Set(versionKey, []byte(formatVersion), pebble.Sync)
	}
	if err != nil {
		return err
	}
	if string(v) != formatVersion {
		return fmt.Errorf("its format is version %.20q, this shoal knows %q", v, formatVersion)
	}
	return nil
}

// count adds up the small blocks' sizes. It reads keys and lengths, not the blocks.
func (s *Store) count() error {
	it, err := s.iter(prefixRange(blockPrefix))
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		v := it.LazyValue()
		s.used.Add(int64(v.Len()))
		s.blocks.Add(1)
	}
	return it.Close()
}

// Stats says how full the store is.
type Stats struct {
	Blocks int64 `json:"blocks"`
	Used   int64 `json:"used"`  // bytes of blocks
	Quota  int64 `json:"quota"` // bytes, 0: no limit
	Free   int64 `json:"free"`  // bytes of disk that blocks may still take; -1: unknown
}

// Stats returns the current figures.
func (s *Store) Stats() Stats {
	st := Stats{Blocks: s.blocks.Load(), Used: s.used.Load(), Quota: s.quota, Free: -1}
	if free, ok := s.disk.free(); ok {
		st.Free = max(0, free-s.disk.reserve)
	}
	return st
}

// Close waits for calls under way and closes the database. After a failure and on a full disk it leaves the database as
// a crash would, which loses nothing acknowledged.
func (s *Store) Close() error {
	if err := s.Err(); err != nil {
		return err
	}
	if s.disk.waiting() {
		return fmt.Errorf("close store: %w: left without a clean close", shard.ErrFull)
	}
	s.life.Lock()
	already := s.closed
	s.closed = true
	s.life.Unlock()
	if already {
		return nil
	}
	s.calls.Wait()
	return errors.Join(s.closeLarge(), s.closeDB(), s.lock.Close())
}

// closeLarge makes all large blocks durable, so that the next Open has none to check.
func (s *Store) closeLarge() (err error) {
	defer s.guard(&err)
	if err := s.large.sync(s.large.now()); err != nil {
		return err
	}
	b := s.db.NewBatch()
	s.recordEpoch(b)
	return errors.Join(s.db.Apply(b, pebble.NoSync), s.large.close())
}

func (s *Store) closeDB() (err error) {
	defer s.guard(&err)
	return s.db.Close()
}

// enter is the beginning of every call, leave its end, with what the call is about to return.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.Err(); err != nil {
		return err
	}
	s.calls.Add(1)
	return nil
}

func (s *Store) leave(err *error) {
	s.calls.Done()
	s.settle(recover(), err)
}

// Failed is closed when the disk failed in a way that the database cannot survive, such as an fsync that reported an
// error, or files that are gone. All calls return the reason from then on, as Err does. Nothing acknowledged is lost; the process has to start
// again to go on.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err is why the store failed, or nil.
func (s *Store) Err() error {
	select {
	case <-s.failed:
		return s.err
	default:
		return nil
	}
}

// fail records the first failure after which the database must not be used.
func (s *Store) fail(err error) {
	s.end(fmt.Errorf("the store's disk failed, look after it and start the node again: %w", err))
}

func (s *Store) end(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.failed)
		s.log.Error("store", "err", s.err)
	})
}

// logger hands Pebble's words to slog.
type logger Store

func (l *logger) Infof(format string, args ...any)  { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l *logger) Errorf(format string, args ...any) { l.log.Error(fmt.Sprintf(format, args...)) }

// Fatalf is called where Pebble's state in memory no longer matches the disk, and must not let it go on; but a node
// ends in order, not here. After a failed commit Pebble only returns to our write, which asks for the outcome. Anything
// else happens in its background goroutines: they stop where they are until the process ends.
func (l *logger) Fatalf(format string, args ...any) {
	(*Store)(l).fail(fmt.Errorf(format, args...))
	if !strings.HasPrefix(format, "pebble: fatal commit error") {
		select {}
	}
}
