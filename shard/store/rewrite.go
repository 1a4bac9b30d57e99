package store

import (
	"context"
	"errors"
	"io/fs"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// holesKept is the part of a file of large blocks, as a divisor, that may be holes after a garbage collection: to move
// the rest of a file costs more the less there is to gain. Places begin at sectors, which leaves gaps of a thirtieth at most.
const holesKept = 4

// reclaimFiles gives the space of large blocks that were removed back to the disk. Files in which nothing lies any more
// go first: on a full disk they are the room for what has to move out of the others.
func (s *Store) reclaimFiles(ctx context.Context) error {
	if err := s.removeEmpty(ctx); err != nil {
		return err
	}
	moving, err := s.movingBlocks(ctx)
	if err != nil {
		return err
	}
	for _, blocks := range moving {
		if err := s.move(ctx, blocks); errors.Is(err, shard.ErrFull) {
			return nil // what went already is all that can be had
		} else if err != nil {
			return err
		}
		if err := s.removeEmpty(ctx); err != nil {
			return err
		}
	}
	return nil
}

// removeEmpty removes the files in which no block lies. What emptied them is durable first: a crash must not bring back
// a place in a file that is gone.
func (s *Store) removeEmpty(ctx context.Context) (err error) {
	empty := s.large.empty()
	if len(empty) == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx) // nobody else would remove them
	if err := s.Sync(ctx); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave(&err)
	return s.large.remove(empty)
}

// empty takes out the files in which no block lies and none is being written.
func (g *segments) empty() (out []*segment) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, seg := range g.files {
		if seg.live != 0 || seg.busy != 0 {
			continue
		}
		if seg == g.active {
			g.active = nil
		}
		delete(g.files, id)
		out = append(out, seg)
	}
	return out
}

// remove removes files that empty took out.
func (g *segments) remove(segs []*segment) (err error) {
	for _, seg := range segs {
		err = errors.Join(err, seg.close())
		if e := g.fs.Remove(g.path(seg.id)); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// sparse are the files with so many holes that the rest is worth moving. None of them is written to any more.
func (g *segments) sparse() map[uint32]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := map[uint32]bool{}
	for id, seg := range g.files {
		if seg.busy == 0 && seg.end-seg.live > seg.end/holesKept {
			out[id] = true
			if seg == g.active {
				g.active = nil
				g.shut(seg)
			}
		}
	}
	return out
}

// movingBlocks lists the blocks of sparse files, by file.
func (s *Store) movingBlocks(ctx context.Context) (out map[uint32][]doubt, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave(&err)
	files := s.large.sparse()
	if len(files) == 0 {
		return nil, nil
	}
	it, err := s.iter(prefixRange(placePrefix))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	out = map[uint32][]doubt{}
	for ok := it.First(); ok; ok = it.Next() {
		c, at, err := placeEntry(it)
		if err != nil {
			return nil, err
		}
		if files[at.segment] {
			out[at.segment] = append(out[at.segment], doubt{c, at})
		}
	}
	return out, it.Error()
}

// moved is a block that lies in two files until the database is told of the new place.
type moved struct {
	c        cid.Cid
	from, to place
	done     func()
}

// move copies the blocks of one file to where new ones go. One that cannot be read stays, and its file with it. The copies are
// on the disk before the database learns of the first: a crash may keep what it learned and drop what was not synced, and
// the old place was promised.
func (s *Store) move(ctx context.Context, blocks []doubt) error {
	var copies []moved
	var full error
	defer func() {
		for _, m := range copies {
			m.done()
		}
	}()
	buf := make([]byte, shard.MaxBlock)
	for _, b := range blocks {
		data, err := s.large.read(b.at, buf)
		if err != nil {
			s.log.Warn("a block cannot be moved", "block", b.c, "err", err)
			continue
		}
		to, done, err := s.lay(ctx, data, s.disk.least())
		if errors.Is(err, shard.ErrFull) && len(copies) > 0 {
			full = err // what could be copied is moved all the same
			break
		}
		if err != nil {
			return err
		}
		copies = append(copies, moved{b.c, b.at, to, done})
	}
	if err := s.Sync(ctx); err != nil {
		return err
	}
	for _, m := range copies {
		if err := s.replace(ctx, m); err != nil {
			return err
		}
	}
	return full
}

// replace tells the database of a block's new place.
func (s *Store) replace(ctx context.Context, m moved) error {
	return s.write(ctx, later, func(b *pebble.Batch) error {
		if at, err := s.placeOf(m.c); errors.Is(err, pebble.ErrNotFound) || at != m.from {
			return nil // gone or put anew meanwhile
		} else if err != nil {
			return err
		}
		s.large.count(m.from, -1)
		return s.setPlace(b, m.c, m.to)
	})
}
