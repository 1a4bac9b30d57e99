//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/blocks"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/store"
)

// randomBlock is block number i, the same in every process; it does not compress.
func randomBlock(i int) []byte {
	b := make([]byte, shard.MaxBlock)
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(i))
	rand.NewChaCha8(seed).Read(b)
	return b
}

func sendBlocks(ctx context.Context, p params) error {
	st, done, err := openStore(p)
	if err != nil {
		return err
	}
	defer done()
	for i := range p.mib {
		if err := addBlock(ctx, st, randomBlock(i)); err != nil {
			return err
		}
	}
	if err := st.Sync(ctx); err != nil {
		return err
	}
	h, err := p2p.New(p2p.Config{Listen: []string{"/ip4/" + p.listen + "/tcp/0"}})
	if err != nil {
		return err
	}
	defer h.Close()
	defer blocks.New(h, st, nil).Close()
	fmt.Println(h.Addrs()[0])
	w, err := p.count()
	if err != nil {
		return err
	}
	bufio.NewReader(os.Stdin).ReadString('\n')
	return w.reportCPU()
}

func addBlock(ctx context.Context, st benchStore, b []byte) error {
	c, err := shard.Name(cid.Raw, b)
	if err != nil {
		return err
	}
	return st.PutLater(ctx, c, b)
}

func receiveBlocks(ctx context.Context, p params) error {
	st, done, err := openStore(p)
	if err != nil {
		return err
	}
	defer done()
	h, err := p2p.New(p2p.Config{Listen: []string{}})
	if err != nil {
		return err
	}
	defer h.Close()
	x := blocks.New(h, st, nil)
	defer x.Close()
	if p.home != "" {
		if err := x.Resume(ctx, filepath.Join(p.home, "incoming")); err != nil {
			return err
		}
	}
	cids, err := names(p.mib)
	if err != nil {
		return err
	}
	from, err := connect(ctx, h, strings.Split(p.peer, ","))
	if err != nil {
		return err
	}
	w, err := p.count()
	if err != nil {
		return err
	}
	err = x.Fetch(ctx, cids, func() []record.PeerID { return from }, func(done, _ int) {
		if p.steps {
			fmt.Println(done)
		}
	})
	if err != nil {
		return err
	}
	return w.report()
}

// names are the CIDs of the first n blocks.
func names(n int) (cids []cid.Cid, err error) {
	for i := range n {
		c, err := shard.Name(cid.Raw, randomBlock(i))
		if err != nil {
			return nil, err
		}
		cids = append(cids, c)
	}
	return cids, nil
}

// connect connects to all senders.
func connect(ctx context.Context, h *p2p.Host, addrs []string) (from []record.PeerID, err error) {
	for _, a := range addrs {
		id, err := p2p.SplitAddr(a)
		if err != nil {
			return nil, err
		}
		if err := h.Connect(ctx, a); err != nil {
			return nil, err
		}
		from = append(from, id)
	}
	return from, nil
}

// benchStore is a store of either kind.
type benchStore interface {
	blocks.Store
	blocks.Pairs
}

// openStore opens a store that is gone after done, unless it has a home.
func openStore(p params) (st benchStore, done func(), err error) {
	if p.home != "" {
		s, err := store.Open(filepath.Join(p.home, "store"), store.Options{})
		return s, func() { s.Close() }, err
	}
	if p.store == "memory" {
		return &memory{keep: p.peer == "", m: map[cid.Cid][]byte{}}, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "shoal-blockbench-")
	if err != nil {
		return nil, nil, err
	}
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, func() { s.Close(); os.RemoveAll(dir) }, nil
}

// memory is a store that keeps what the sender put. Of what arrives it keeps, verified, only that it was there: the other
// end of the comparison drops its bytes too.
type memory struct {
	keep bool
	mu   sync.Mutex // guards m
	m    map[cid.Cid][]byte
}

func (s *memory) Has(_ context.Context, c cid.Cid) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.m[c]
	return ok, nil
}

func (s *memory) Get(_ context.Context, c cid.Cid) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.m[c]; b != nil {
		return b, nil
	}
	return nil, shard.ErrNotFound
}

func (s *memory) Put(_ context.Context, c cid.Cid, data []byte) error {
	if err := shard.Check(c, data); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.keep {
		data = nil
	}
	s.m[c] = data
	return nil
}

// PutLater is Put: there is no disk.
func (s *memory) PutLater(ctx context.Context, c cid.Cid, data []byte) error {
	return s.Put(ctx, c, data)
}

func (s *memory) PutTwoLater(_ context.Context, c, d cid.Cid, a, b []byte) (errA, errB error) {
	if errA, errB = shard.CheckTwo(c, d, a, b); errA != nil || errB != nil {
		return errA, errB
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[c], s.m[d] = nil, nil
	return nil, nil
}

func (s *memory) Sync(context.Context) error { return nil }
