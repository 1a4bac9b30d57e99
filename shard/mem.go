package shard

import (
	"context"
	"fmt"
	"sync"

	"github.com/ipfs/go-cid"
)

// Mem is a Store in memory, for work that needs no disk and for tests. It is safe for concurrent use.
type Mem struct {
	mu     sync.RWMutex
	blocks map[cid.Cid][]byte // guarded by mu; the slices are never changed
}

// NewMem returns an empty store.
func NewMem() *Mem { return &Mem{blocks: map[cid.Cid][]byte{}} }

// Get implements Getter.
func (s *Mem) Get(ctx context.Context, c cid.Cid) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	data, ok := s.blocks[c]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, c)
	}
	return data, nil
}

// Has implements Store.
func (s *Mem) Has(ctx context.Context, c cid.Cid) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.blocks[c]
	return ok, nil
}

// Add implements Putter.
func (s *Mem) Add(ctx context.Context, codec uint64, data []byte) (cid.Cid, error) {
	if err := ctx.Err(); err != nil {
		return cid.Undef, err
	}
	c, err := Name(codec, data)
	if err != nil {
		return cid.Undef, err
	}
	s.keep(c, data)
	return c, nil
}

// Put implements Putter.
func (s *Mem) Put(ctx context.Context, c cid.Cid, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := Check(c, data); err != nil {
		return err
	}
	s.keep(c, data)
	return nil
}

func (s *Mem) keep(c cid.Cid, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.blocks[c]; !ok {
		s.blocks[c] = append([]byte{}, data...) // the caller may use data again; never nil
	}
}
