package data

import (
	"context"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/seed-7b27c88a/shoal/shard"
)

// Memory keeps blocks in memory, for training in one process. The zero value is ready.
type Memory struct {
	mu     sync.RWMutex // guards blocks
	blocks map[cid.Cid][]byte
}

var _ shard.Store = (*Memory)(nil)

// Add implements shard.Putter.
func (m *Memory) Add(_ context.Context, codec uint64, data []byte) (cid.Cid, error) {
	if len(data) > shard.MaxBlock {
		return cid.Undef, shard.ErrTooLarge
	}
	c, err := cid.V1Builder{Codec: codec, MhType: multihash.SHA2_256}.Sum(data)
	if err != nil {
		return cid.Undef, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blocks == nil {
		m.blocks = map[cid.Cid][]byte{}
	}
	m.blocks[c] = data
	return c, nil
}

// Put implements shard.Putter.
func (m *Memory) Put(ctx context.Context, c cid.Cid, data []byte) error {
	got, err := c.Prefix().Sum(data)
	if err != nil || !got.Equals(c) {
		return shard.ErrCorrupt
	}
	_, err = m.Add(ctx, c.Prefix().Codec, data)
	return err
}

// Get implements shard.Getter.
func (m *Memory) Get(_ context.Context, c cid.Cid) ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	b, ok := m.blocks[c]
	if !ok {
		return nil, shard.ErrNotFound
	}
	return b, nil
}

// Has implements shard.Store.
func (m *Memory) Has(_ context.Context, c cid.Cid) (bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	_, ok := m.blocks[c]
	return ok, nil
}
