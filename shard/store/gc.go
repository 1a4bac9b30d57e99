package store

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// Freed is what a garbage collection removed.
type Freed struct {
	Blocks int   `json:"blocks"`
	Bytes  int64 `json:"bytes"`
}

// GC removes every block that no pin reaches, and gives the space back to the disk. Reads and writes go on meanwhile; a
// block that is stored or pinned while GC runs stays.
func (s *Store) GC(ctx context.Context) (Freed, error) {
	var freed Freed
	if err := s.beginGC(ctx); err != nil {
		return freed, err
	}
	defer s.endGC()
	live, err := s.mark(ctx)
	if err != nil {
		return freed, err
	}
	for _, prefix := range []byte{blockPrefix, placePrefix} {
		if err := s.sweep(ctx, prefix, live, &freed); err != nil {
			return freed, err
		}
	}
	if err := s.reclaimFiles(ctx); err != nil || freed.Blocks == 0 {
		return freed, err
	}
	return freed, s.reclaim(ctx)
}

func (s *Store) beginGC(ctx context.Context) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.give()
	if s.keep != nil {
		return errors.New("garbage collection is running already")
	}
	s.keep = map[cid.Cid]struct{}{}
	return nil
}

func (s *Store) endGC() {
	select {
	case s.turn <- struct{}{}:
		s.keep = nil
		s.give()
	case <-s.failed: // nobody writes any more
	}
}

// mark collects what the pins reach. What is pinned from now on is in keep.
func (s *Store) mark(ctx context.Context) (live map[cid.Cid]struct{}, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave(&err)
	pins, err := s.pins("")
	if err != nil {
		return nil, err
	}
	live = map[cid.Cid]struct{}{}
	for _, pin := range pins {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if _, seen := live[pin.Root]; seen {
			continue
		}
		var data []byte
		if mayList(pin.Root) {
			if data, err = s.get(pin.Root); err != nil && !errors.Is(err, shard.ErrNotFound) {
				return nil, err // unreadable, so what it protects is unknown
			}
		}
		reach(live, pin.Root, data)
	}
	return live, nil
}

// reach adds c and, if data is a manifest, the blocks it lists.
func reach(set map[cid.Cid]struct{}, c cid.Cid, data []byte) {
	set[c] = struct{}{}
	if !mayList(c) || len(data) == 0 {
		return
	}
	m, err := shard.DecodeManifest(data)
	if err != nil {
		return // another kind of record: it stands for itself
	}
	for _, b := range m.Blocks() {
		set[b] = struct{}{}
	}
}

func mayList(c cid.Cid) bool { return c.Prefix().Codec == cid.DagCBOR }

// keepReachable is called in turn by whoever stores or pins c.
func (s *Store) keepReachable(c cid.Cid, data []byte) {
	if s.keep != nil {
		reach(s.keep, c, data)
	}
}

// sweepBatch is how many blocks are removed in one turn: writers wait no longer than that takes.
const sweepBatch = 64

func (s *Store) sweep(ctx context.Context, prefix byte, live map[cid.Cid]struct{}, freed *Freed) error {
	from := []byte{prefix}
	for from != nil {
		victims, next, err := s.victims(ctx, live, from)
		if err != nil {
			return err
		}
		if err := s.remove(ctx, victims, freed); err != nil {
			return err
		}
		from = next
	}
	return nil
}

// victims lists some blocks from the key from on that are not live, and where to go on; nil at the end.
func (s *Store) victims(ctx context.Context, live map[cid.Cid]struct{}, from []byte) (list []cid.Cid, next []byte, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, nil, err
	}
	defer s.leave(&err)
	it, err := s.iter(&pebble.IterOptions{LowerBound: from, UpperBound: []byte{from[0] + 1}})
	if err != nil {
		return nil, nil, err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if len(list) == sweepBatch {
			return list, append([]byte{}, it.Key()...), nil
		}
		c, err := blockOf(it.Key())
		if err != nil {
			return nil, nil, err
		}
		if _, ok := live[c]; !ok {
			list = append(list, c)
		}
	}
	return list, nil, it.Error()
}

// remove need not be durable: garbage that a crash brings back is garbage still.
func (s *Store) remove(ctx context.Context, victims []cid.Cid, freed *Freed) error {
	return s.write(ctx, later, func(b *pebble.Batch) error {
		for _, c := range victims {
			if _, ok := s.keep[c]; ok {
				continue
			}
			size, found, err := s.delete(b, c)
			if err != nil {
				return err
			}
			if found {
				freed.Blocks++
				freed.Bytes += size
			}
		}
		return nil
	})
}

// reclaim compacts the block keys, so that files whose blocks are all gone are deleted now and not some day.
func (s *Store) reclaim(ctx context.Context) (err error) {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave(&err)
	done := make(chan error, 1)
	go func() { done <- s.compact(ctx) }()
	select {
	case err := <-done:
		return err
	case <-s.failed: // it never comes back
		return s.err
	}
}

func (s *Store) compact(ctx context.Context) (err error) {
	defer s.guard(&err)
	return errors.Join(s.db.Compact(ctx, []byte{blockPrefix}, []byte{blockPrefix + 1}, false),
		s.db.Compact(ctx, []byte{placePrefix}, []byte{placePrefix + 1}, false))
}
