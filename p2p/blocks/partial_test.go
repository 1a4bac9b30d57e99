package blocks

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// script is a donor of blocks that sends at most limit bytes of an answer and then breaks off.
type script struct {
	node
	mu    sync.Mutex
	from  []uint32 // where gets began
	limit int
}

func startScript(t *testing.T, limit int, blocks ...[]byte) *script {
	d := &script{node: startNode(t, newStore(blocks...), nil), limit: limit}
	d.x.Close()
	d.Handle(protocol, func(s *p2p.Stream) {
		defer s.Reset()
		for r := bufio.NewReader(s); d.answer(t.Context(), s, r) == nil; {
		}
	})
	return d
}

func (d *script) answer(ctx context.Context, s *p2p.Stream, r *bufio.Reader) error {
	q, err := readRequest(r)
	if err != nil {
		return err
	}
	frame, done := (&donation{x: d.x, s: s}).reply(ctx, queued{request: q})
	defer done()
	if q.kind == kindGet {
		d.mu.Lock()
		d.from = append(d.from, q.from)
		d.mu.Unlock()
		if len(frame)-headSize > d.limit {
			s.Write(frame[:headSize+d.limit])
			return errors.Join(s.CloseWrite(), errors.New("broken off"))
		}
	}
	return writeAll(s, frame, writeSize)
}

// A block that broke off goes on where it was, from another donor and after a restart; but a wrong beginning is forgotten.
func TestResumeInMidBlock(t *testing.T) {
	const half = maxBlock / 2
	blocks, cids := randomBlocks(3, maxBlock)
	dir := t.TempDir()
	junk := filepath.Join(dir, cids[1].String()+partEnding)
	for name, data := range map[string][]byte{
		junk:                                 make([]byte, 1000),
		filepath.Join(dir, "xyz"+partEnding): {1},
		filepath.Join(dir, cids[2].String()+partEnding): blocks[2][:5], // it is in the store
	} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := startNode(t, newStore(blocks[2]), nil)
	broken, whole := startScript(t, half, blocks...), startScript(t, maxBlock, blocks...)
	if err := c.x.Resume(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(t))
	ended := 0
	from := c.connect(t, broken.node)
	err := c.x.Fetch(ctx, cids[:1], func() []record.PeerID {
		if ended++; ended > 1 { // the first attempt is over
			cancel()
		}
		return from()
	}, nil)
	if err == nil {
		t.Fatal("complete")
	}
	c.x.Close()
	again := node{c.Host, New(c.Host, c.store, nil), c.store}
	if err := again.x.Resume(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if err := again.x.Fetch(within(t), cids, again.connect(t, whole.node), nil); err != nil {
		t.Fatal(err)
	}
	again.wantAll(t, cids)
	slices.Sort(whole.from)
	if want := []uint32{0, 1000, half}; !slices.Equal(whole.from, want) {
		t.Errorf("gets began at %v, want %v", whole.from, want)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// rottenStore cannot read one block until it was dropped.
type rottenStore struct {
	*memStore
	bad   cid.Cid
	drops int
}

func (s *rottenStore) Get(ctx context.Context, c cid.Cid) ([]byte, error) {
	if c == s.bad && s.drops == 0 {
		return nil, errors.New("rotten")
	}
	return s.memStore.Get(ctx, c)
}

func (s *rottenStore) Drop(_ context.Context, c cid.Cid) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drops++
	delete(s.m, c)
	return nil
}

func TestHeal(t *testing.T) {
	blocks, cids := randomBlocks(2, 1000)
	a, c := startNode(t, newStore(blocks...), nil), startNode(t, newStore(), nil)
	store := &rottenStore{memStore: newStore(blocks...), bad: cids[1]}
	x := New(c.Host, store, nil)
	from := c.connect(t, a)
	for range 2 {
		data, err := x.Heal(within(t), cids[1], from())
		if err != nil || !bytes.Equal(data, blocks[1]) || store.drops != 1 {
			t.Errorf("%d bytes, %d drops, %v", len(data), store.drops, err)
		}
	}
	if _, err := c.x.Heal(within(t), cids[1], from()); err == nil {
		t.Error("a store that cannot drop was healed")
	}
}
