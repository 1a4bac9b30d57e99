package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// openSegments finds the files of large blocks. The database is open already.
func (s *Store) openSegments(dir string, o Options) error {
	g := &segments{fs: o.fs, dir: segmentsIn(dir, o.fs), max: o.segment, files: map[uint32]*segment{}}
	s.large = g
	if err := makeDir(o.fs, dir, g.dir); err != nil {
		return err
	}
	doubted, err := s.countPlaces()
	if err != nil {
		return err
	}
	short, err := g.measure()
	if err != nil {
		return err
	}
	if err := s.dropLost(short); err != nil {
		return err
	}
	return s.settleDoubts(doubted)
}

func segmentsIn(dir string, fsys vfs.FS) string { return fsys.PathJoin(dir, segmentsDir) }

func makeDir(fsys vfs.FS, parent, dir string) error {
	if _, err := fsys.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(fsys, parent)
}

// doubt is a block whose bytes a crash may have kept from the disk, though the database knows its place.
type doubt struct {
	c  cid.Cid
	at place
}

// countPlaces adds up what the database knows of large blocks, and returns those to be checked.
func (s *Store) countPlaces() (doubted []doubt, err error) {
	durable, err := s.durableEpoch()
	if err != nil {
		return nil, err
	}
	it, err := s.iter(prefixRange(placePrefix))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	last := durable
	for ok := it.First(); ok; ok = it.Next() {
		c, at, err := placeEntry(it)
		if err != nil {
			return nil, err
		}
		last = max(last, at.epoch)
		s.large.found(at, at.epoch <= durable)
		if at.epoch > durable {
			doubted = append(doubted, doubt{c, at})
		}
		s.used.Add(int64(at.size))
		s.blocks.Add(1)
	}
	s.recorded, s.large.epoch = durable, last+1
	s.large.durable.Store(durable)
	return doubted, it.Error()
}

func placeEntry(it *pebble.Iterator) (c cid.Cid, at place, err error) {
	if c, err = blockOf(it.Key()); err != nil {
		return c, at, err
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return c, at, err
	}
	at, err = decodePlace(v)
	return c, at, err
}

// durableEpoch is what the database was told of segments last.
func (s *Store) durableEpoch() (uint64, error) {
	v, err := s.copyOf(epochKey)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	case len(v) != 8:
		return 0, fmt.Errorf("%w: an epoch of %d bytes", shard.ErrCorrupt, len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

// found notes a place. Where it is known to be on the disk, the file must reach so far.
func (g *segments) found(at place, sure bool) {
	seg := g.files[at.segment]
	if seg == nil {
		seg = &segment{id: at.segment}
		g.files[at.segment] = seg
	}
	seg.live += int64(at.size)
	if sure {
		seg.end = max(seg.end, at.end())
	}
}

// measure compares the files with what the places say, removes those in which nothing lies, and goes on in the last. It returns
// the sizes of those that are cut, 0 of those that are gone.
func (g *segments) measure() (short map[uint32]int64, err error) {
	names, err := g.fs.List(g.dir)
	if err != nil {
		return nil, err
	}
	there := map[uint32]bool{}
	for _, name := range names {
		id, ok := numberOf(name)
		if !ok {
			continue
		}
		g.last, there[id] = max(g.last, id), true
		if g.files[id] == nil { // a crash came before its first block, or before its removal
			if err := g.fs.Remove(g.path(id)); err != nil {
				return nil, err
			}
		}
	}
	short = map[uint32]int64{}
	for id, seg := range g.files {
		g.last = max(g.last, id)
		size := int64(0)
		if there[id] {
			info, err := g.fs.Stat(g.path(id))
			if err != nil {
				return nil, err
			}
			size = info.Size()
		}
		if size < seg.end {
			short[id] = size
		}
		seg.end = size
	}
	if seg := g.files[g.last]; seg != nil && there[g.last] {
		g.active = seg
	}
	return short, nil
}

// Lost is what was in files of large blocks that are cut or gone.
type Lost struct {
	Files  []string // in the order of their names
	Blocks []cid.Cid
	Bytes  int64
}

// Lost is what Open missed and dropped: it can be stored anew, from other nodes or from where it was imported.
func (s *Store) Lost() Lost { return s.lost }

// dropLost forgets the blocks that lay in files where these end now. Those in doubt are not meant: nobody had promised that they
// would survive.
func (s *Store) dropLost(short map[uint32]int64) (err error) {
	if len(short) == 0 {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(short)) {
		s.lost.Files = append(s.lost.Files, s.large.path(id))
	}
	it, err := s.iter(prefixRange(placePrefix))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	b := s.db.NewBatch()
	for ok := it.First(); ok; ok = it.Next() {
		c, at, err := placeEntry(it)
		if err != nil {
			return err
		}
		size, cut := short[at.segment]
		if !cut || at.epoch > s.recorded || at.end() <= size {
			continue
		}
		if err := b.Delete(placeKey(c), nil); err != nil {
			return err
		}
		s.forget(at)
		s.lost.Blocks, s.lost.Bytes = append(s.lost.Blocks, c), s.lost.Bytes+int64(at.size)
	}
	s.log.Warn("files of the store are cut or gone; the blocks in them are dropped", "files", s.lost.Files,
		"blocks", len(s.lost.Blocks), "bytes", s.lost.Bytes)
	return errors.Join(it.Error(), s.db.Apply(b, pebble.Sync))
}

// forget takes a large block out of the sums.
func (s *Store) forget(at place) {
	s.used.Add(-int64(at.size))
	s.blocks.Add(-1)
	s.large.count(at, -1)
}

// settleDoubts reads the blocks that were put shortly before the store was left without a clean close. Those that are
// whole are made durable, as a process that was killed leaves them in the system's memory; of the others no call said
// that they would survive, so they go.
func (s *Store) settleDoubts(doubted []doubt) error {
	if len(doubted) == 0 {
		return nil
	}
	b := s.db.NewBatch()
	buf := make([]byte, shard.MaxBlock)
	whole := map[uint32]bool{}
	for _, d := range doubted {
		_, err := s.large.read(d.at, buf)
		switch {
		case err == nil:
			whole[d.at.segment] = true
		case gone(err) || errors.Is(err, errRotten):
			if err := b.Delete(placeKey(d.c), nil); err != nil {
				return err
			}
			s.forget(d.at)
		default:
			return err
		}
	}
	for id := range whole {
		if err := s.large.syncFile(id); err != nil {
			return err
		}
	}
	return s.db.Apply(b, pebble.Sync)
}

func (g *segments) syncFile(id uint32) error {
	file, err := g.fs.OpenReadWrite(g.path(id), segmentCreated)
	if err != nil {
		return err
	}
	return errors.Join(file.SyncData(), file.Close())
}
