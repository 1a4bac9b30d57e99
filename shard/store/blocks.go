package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// Get implements shard.Getter.
func (s *Store) Get(ctx context.Context, c cid.Cid) (data []byte, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave(&err)
	return s.get(c)
}

// GetInto is Get into buf's memory, as far as that suffices: who serves many blocks needs no new memory for each.
func (s *Store) GetInto(ctx context.Context, c cid.Cid, buf []byte) (data []byte, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave(&err)
	return s.getInto(c, buf)
}

func (s *Store) get(c cid.Cid) ([]byte, error) { return s.getInto(c, nil) }

func (s *Store) getInto(c cid.Cid, buf []byte) ([]byte, error) {
	data, err := s.copyInto(blockKey(c), buf)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return nil, fmt.Errorf("%w: %s", shard.ErrNotFound, c)
	case err != nil:
		return nil, fmt.Errorf("block %s: %w", c, err)
	}
	return data, nil
}

// copyOf reads a value; the database wants its own memory back. Where the value lies in another file that cannot be
// read, it learns so after it returned an empty one, and only the closer tells.
func (s *Store) copyOf(key []byte) ([]byte, error) { return s.copyInto(key, nil) }

func (s *Store) copyInto(key, buf []byte) ([]byte, error) {
	data, closer, err := s.db.Get(key)
	if err != nil {
		return nil, err
	}
	if buf == nil {
		buf = make([]byte, 0, len(data))
	}
	data = append(buf[:0], data...)
	if err := closer.Close(); err != nil {
		return nil, err
	}
	return data, nil
}

// Has implements shard.Store.
func (s *Store) Has(ctx context.Context, c cid.Cid) (found bool, err error) {
	if err := s.enter(ctx); err != nil {
		return false, err
	}
	defer s.leave(&err)
	return s.has(blockKey(c))
}

// has looks for a key without reading the value, which may lie in another file.
func (s *Store) has(key []byte) (bool, error) {
	it, err := s.iter(&pebble.IterOptions{LowerBound: key, UpperBound: append(bytes.Clone(key), 0)})
	if err != nil {
		return false, err
	}
	found := it.SeekPrefixGE(key)
	return found, it.Close()
}

// size is the length of a key's value without reading it; -1: there is none.
func (s *Store) size(key []byte) (int64, error) {
	it, err := s.iter(&pebble.IterOptions{LowerBound: key, UpperBound: append(bytes.Clone(key), 0)})
	if err != nil {
		return -1, err
	}
	n := int64(-1)
	if it.First() {
		v := it.LazyValue()
		n = int64(v.Len())
	}
	return n, it.Close()
}

// Add implements shard.Putter.
func (s *Store) Add(ctx context.Context, codec uint64, data []byte) (cid.Cid, error) {
	return (&putter{s: s, durable: true}).Add(ctx, codec, data)
}

// Put implements shard.Putter.
func (s *Store) Put(ctx context.Context, c cid.Cid, data []byte) error {
	return (&putter{s: s, durable: true}).Put(ctx, c, data)
}

// Deferred implements shard.Deferrer.
func (s *Store) Deferred() shard.Putter { return &putter{s: s} }

// PutLater is Put of Deferred: the block need not survive a crash yet. data may be used again when it returned.
func (s *Store) PutLater(ctx context.Context, c cid.Cid, data []byte) error {
	return (&putter{s: s}).Put(ctx, c, data)
}

// Sync makes durable what is stored.
func (s *Store) Sync(ctx context.Context) error {
	return s.write(ctx, true, func(*pebble.Batch) error { return nil })
}

// Drop removes a block whose bytes cannot be read any more, pinned or not, so that it can be put anew.
func (s *Store) Drop(ctx context.Context, c cid.Cid) error {
	key := blockKey(c)
	return s.write(ctx, true, func(b *pebble.Batch) error {
		size, err := s.size(key)
		if err != nil || size < 0 {
			return err
		}
		s.used.Add(-size)
		s.blocks.Add(-1)
		return b.Delete(key, nil)
	})
}

// Under returns a putter that pins each block under name in the same instant in which it stores it, so that no garbage
// collection comes between. It is for imports, whose identity is known only at the end: then pin the manifest and unpin
// name. Names that a crash left over are found with Pins. The putter is a shard.Deferrer.
func (s *Store) Under(name string) shard.Putter { return &putter{s: s, pin: name, durable: true} }

// putter is a way to store blocks.
type putter struct {
	s       *Store
	pin     string // name of a pin, or none
	durable bool
}

func (p *putter) Deferred() shard.Putter { return &putter{s: p.s, pin: p.pin} }

func (p *putter) Add(ctx context.Context, codec uint64, data []byte) (cid.Cid, error) {
	c, err := shard.Name(codec, data)
	if err != nil {
		return cid.Undef, err
	}
	if err := p.store(ctx, c, data); err != nil {
		return cid.Undef, err
	}
	return c, nil
}

func (p *putter) Put(ctx context.Context, c cid.Cid, data []byte) error {
	if err := shard.Check(c, data); err != nil {
		return err
	}
	return p.store(ctx, c, data)
}

// store writes data, which c is known to name.
func (p *putter) store(ctx context.Context, c cid.Cid, data []byte) error {
	if p.pin != "" {
		if err := checkPinName(p.pin); err != nil {
			return err
		}
	}
	s, key := p.s, blockKey(c)
	return s.write(ctx, p.durable, func(b *pebble.Batch) error {
		s.keepReachable(c, data)
		have, err := s.has(key)
		if err != nil {
			return err
		}
		if p.pin != "" {
			if err := b.Set(pinKey(p.pin, c), nil, nil); err != nil {
				return err
			}
		}
		if have {
			return nil
		}
		if err := s.room(len(data)); err != nil {
			return err
		}
		s.used.Add(int64(len(data)))
		s.blocks.Add(1)
		return b.Set(key, data, nil)
	})
}
