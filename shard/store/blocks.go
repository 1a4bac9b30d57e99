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

func (s *Store) get(c cid.Cid) ([]byte, error) {
	data, err := s.copyOf(blockKey(c))
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
func (s *Store) copyOf(key []byte) ([]byte, error) {
	data, closer, err := s.db.Get(key)
	if err != nil {
		return nil, err
	}
	data = append([]byte{}, data...)
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
