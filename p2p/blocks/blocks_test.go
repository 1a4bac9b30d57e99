package blocks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
	"go.uber.org/goleak"

	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func cidOf(data []byte) cid.Cid {
	sum := sha256.Sum256(data)
	h, _ := mh.Encode(sum[:], mh.SHA2_256)
	return cid.NewCidV1(cid.Raw, h)
}

// memStore keeps blocks in memory and verifies them.
type memStore struct {
	mu   sync.Mutex
	m    map[cid.Cid][]byte
	gets atomic.Int64
	puts int // of blocks that were there already
	full atomic.Bool
	lies atomic.Bool   // Get returns other bytes
	gate chan struct{} // not nil: Get waits for it
}

func newStore(blocks ...[]byte) *memStore {
	s := &memStore{m: map[cid.Cid][]byte{}}
	for _, b := range blocks {
		s.m[cidOf(b)] = b
	}
	return s
}

func (s *memStore) Has(_ context.Context, c cid.Cid) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[c] != nil, nil
}

func (s *memStore) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.m)
}

func (s *memStore) Get(ctx context.Context, c cid.Cid) ([]byte, error) {
	s.gets.Add(1)
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.m[c]
	if b == nil {
		return nil, errors.New("not here")
	}
	if s.lies.Load() {
		return []byte("a lie"), nil
	}
	return b, nil
}

var errFull = errors.New("store is full")

func (s *memStore) Put(_ context.Context, c cid.Cid, data []byte) error {
	if !cidOf(data).Equals(c) {
		return errors.New("corrupt")
	}
	if s.full.Load() {
		return errFull
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[c] != nil {
		s.puts++
	}
	s.m[c] = data
	return nil
}

func randomBlocks(n, size int) (blocks [][]byte, cids []cid.Cid) {
	r := rand.NewChaCha8([32]byte{1})
	for range n {
		b := make([]byte, size)
		r.Read(b)
		blocks = append(blocks, b)
		cids = append(cids, cidOf(b))
	}
	return blocks, cids
}

type node struct {
	*p2p.Host
	x     *Exchange
	store *memStore
}

func startNode(t *testing.T, store *memStore, allow func(record.PeerID, cid.Cid) bool) node {
	t.Helper()
	h, err := p2p.New(p2p.Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return node{h, New(h, store, allow), store}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (n node) connect(t *testing.T, to ...node) func() []record.PeerID {
	t.Helper()
	var ids []record.PeerID
	for _, p := range to {
		if err := n.Connect(within(t), p.Addrs()[0]); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, p.ID())
	}
	return func() []record.PeerID { return ids }
}

func (n node) wantAll(t *testing.T, cids []cid.Cid) {
	t.Helper()
	for _, c := range cids {
		if ok, _ := n.store.Has(t.Context(), c); !ok {
			t.Fatalf("block %s is missing", c)
		}
	}
	if n.store.puts > 0 {
		t.Errorf("%d blocks stored twice", n.store.puts)
	}
}

func TestFetch(t *testing.T) {
	blocks, cids := randomBlocks(70, 50_000)
	half := newStore(blocks[:40]...)
	a, b := startNode(t, newStore(blocks[30:]...), nil), startNode(t, half, nil)
	c := startNode(t, newStore(blocks[10]), nil)
	var last, calls int
	err := c.x.Fetch(within(t), append(cids, cids...), c.connect(t, a, b), func(done, total int) {
		if done < last || total != 70 {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
		calls++
	})
	if err != nil {
		t.Fatal(err)
	}
	c.wantAll(t, cids)
	if last != 70 || calls < 2 {
		t.Errorf("progress ended at %d after %d calls", last, calls)
	}
	if err := c.x.Fetch(within(t), cids, func() []record.PeerID { return nil }, nil); err != nil {
		t.Errorf("all is there: %v", err)
	}
}

func TestFetchLargest(t *testing.T) {
	blocks, cids := randomBlocks(20, maxBlock)
	a, b := startNode(t, newStore(blocks...), nil), startNode(t, newStore(), nil)
	if err := b.x.Fetch(within(t), cids, b.connect(t, a), nil); err != nil {
		t.Fatal(err)
	}
	b.wantAll(t, cids)
	data, err := b.x.Get(within(t), cids[3], nil)
	if err != nil || !bytes.Equal(data, blocks[3]) {
		t.Error("Get returns something else", err)
	}
}

func TestFetchManySmall(t *testing.T) {
	blocks, cids := randomBlocks(3*maxHaves+7, 40)
	a, b, c := startNode(t, newStore(blocks...), nil), startNode(t, newStore(blocks...), nil), startNode(t, newStore(), nil)
	if err := c.x.Fetch(within(t), cids, c.connect(t, a, b), nil); err != nil {
		t.Fatal(err)
	}
	c.wantAll(t, cids)
}

func TestFetchGoesOnWhereItStopped(t *testing.T) {
	blocks, cids := randomBlocks(60, 20_000)
	a, c := startNode(t, newStore(blocks...), nil), startNode(t, newStore(), nil)
	from := c.connect(t, a)
	for stops := 0; ; stops++ {
		if stops > 60 {
			t.Fatal("no progress")
		}
		ctx, cancel := context.WithCancel(within(t))
		before := c.store.len()
		err := c.x.Fetch(ctx, cids, from, func(done, _ int) {
			if done >= before+15 {
				cancel()
			}
		})
		cancel()
		if err == nil {
			break
		}
	}
	c.wantAll(t, cids)
	if n := a.store.gets.Load(); n > 60+4*(window+maxStoring) {
		t.Errorf("the donor read %d blocks to give 60", n)
	}
}

func TestLiarIsNotBelieved(t *testing.T) {
	blocks, cids := randomBlocks(30, 1000)
	liar := startNode(t, newStore(blocks...), nil)
	liar.store.lies.Store(true)
	honest, c := startNode(t, newStore(blocks...), nil), startNode(t, newStore(), nil)
	from := c.connect(t, liar, honest)
	if err := c.x.Fetch(within(t), cids, from, nil); err != nil {
		t.Fatal(err)
	}
	c.wantAll(t, cids)
}

func TestDonorDies(t *testing.T) {
	blocks, cids := randomBlocks(100, 20_000)
	dying, other := startNode(t, newStore(blocks...), nil), startNode(t, newStore(blocks...), nil)
	c := startNode(t, newStore(), nil)
	from := c.connect(t, dying, other)
	dying.store.gate = make(chan struct{}, 100) // gives ten blocks, then hangs until it dies
	for range 10 {
		dying.store.gate <- struct{}{}
	}
	var once sync.Once
	err := c.x.Fetch(within(t), cids, from, func(done, _ int) {
		if done >= 50 {
			once.Do(func() { go dying.Close() })
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	c.wantAll(t, cids)
}

func TestDonorsComeLater(t *testing.T) {
	blocks, cids := randomBlocks(10, 1000)
	a, c := startNode(t, newStore(blocks...), nil), startNode(t, newStore(), nil)
	from := c.connect(t, a)
	asked := 0
	if err := c.x.Fetch(within(t), cids, func() []record.PeerID {
		if asked++; asked < 2 {
			return nil
		}
		return from()
	}, nil); err != nil {
		t.Fatal(err)
	}
	c.wantAll(t, cids)
}

func TestAccess(t *testing.T) {
	blocks, cids := randomBlocks(4, 1000)
	c := startNode(t, newStore(), nil)
	a := startNode(t, newStore(blocks...), func(p record.PeerID, x cid.Cid) bool { return p == c.ID() && x != cids[2] })
	if err := c.x.Fetch(within(t), []cid.Cid{cids[0], cids[1], cids[3]}, c.connect(t, a), nil); err != nil {
		t.Fatal(err)
	}
	s, err := c.Open(within(t), a.ID(), protocol)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	if _, err := s.Write(request{kind: kindGet, seq: 9, cids: cids[2:3]}.append(nil)); err != nil {
		t.Fatal(err)
	}
	if h, err := readHeader(s); err != nil || h != (header{kind: kindBlock, status: statusRefused, seq: 9}) {
		t.Errorf("%+v %v", h, err)
	}
}

func TestFetchErrors(t *testing.T) {
	blocks, cids := randomBlocks(3, 1000)
	a, c := startNode(t, newStore(blocks[:1]...), nil), startNode(t, newStore(), nil)
	from := c.connect(t, a)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := c.x.Fetch(ctx, cids, from, nil)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2 of 3 blocks missing") || !strings.Contains(err.Error(), string(a.ID())) {
		t.Errorf("incomplete fetch: %v", err)
	}
	c.store.full.Store(true)
	a.store.Put(t.Context(), cids[1], blocks[1])
	if err := c.x.Fetch(within(t), cids[1:2], from, nil); !errors.Is(err, errFull) {
		t.Errorf("full store: %v", err)
	}
	if err := c.x.Fetch(within(t), []cid.Cid{cid.Undef}, from, nil); err == nil {
		t.Error("fetched nothing")
	}
}

func TestHostileRequests(t *testing.T) {
	blocks, cids := randomBlocks(1, 1000)
	a, c := startNode(t, newStore(blocks...), nil), startNode(t, newStore(), nil)
	from := c.connect(t, a)
	a.store.gate = make(chan struct{})
	get := request{kind: kindGet, cids: cids}.append(nil)
	for name, b := range map[string][]byte{
		"huge length":       {1, 0, 0, 0, 0, 0, 255, 255, 255, 255},
		"unknown kind":      {77, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"answer as request": {5, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"bad CID":           {2, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4},
		"bad list":          {1, 0, 0, 0, 0, 0, 0, 0, 0, 4, 200, 2, 3, 4},
		"flood":             bytes.Repeat(get, maxQueued+2),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := c.Open(within(t), a.ID(), protocol)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Reset()
			s.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := s.Write(b); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, s); err == nil || strings.Contains(err.Error(), "deadline") {
				t.Errorf("stream ended with %v, want a reset", err)
			}
		})
	}
	close(a.store.gate)
	if err := c.x.Fetch(within(t), cids, from, nil); err != nil {
		t.Error(err)
	}
}

// A donor that answers nonsense costs a fetch nothing but that donor.
func TestHostileDonor(t *testing.T) {
	blocks, cids := randomBlocks(5, 1000)
	good, c := startNode(t, newStore(blocks...), nil), startNode(t, newStore(), nil)
	donors := []node{}
	for _, answer := range [][]byte{
		{9, 9, 9, 9, 9, 9, 9, 9, 9, 9},
		{4, 0, 0, 0, 0, 0, 0, 0, 0, 64},
		{5, 0, 0, 0, 0, 0, 255, 255, 255, 255},
		{5, 0, 0, 0, 0, 7, 0, 0, 0, 0},
		header{kind: kindHas, seq: 0, length: 1}.append(nil),
		append(header{kind: kindHas, seq: 0, length: 1}.append(nil), 255, 5, 0),
	} {
		bad := startNode(t, newStore(), nil)
		bad.x.Close()
		bad.Handle(protocol, func(s *p2p.Stream) {
			defer s.Reset()
			readRequest(s)
			s.Write(answer)
			s.CloseWrite()
			io.Copy(io.Discard, s)
		})
		donors = append(donors, bad)
	}
	bad := c.connect(t, donors...)
	both := c.connect(t, append(donors, good)...)
	calls := 0
	err := c.x.Fetch(within(t), cids, func() []record.PeerID {
		if calls++; calls == 1 {
			return bad()
		}
		return both()
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.wantAll(t, cids)
}

func TestStreamsPerPeerAreBounded(t *testing.T) {
	a, c := startNode(t, newStore(), nil), startNode(t, newStore(), nil)
	c.connect(t, a)
	_, cids := randomBlocks(1, 10)
	refused := 0
	for range maxServedPeer + 2 {
		s, err := c.Open(within(t), a.ID(), protocol)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset()
		s.SetDeadline(time.Now().Add(20 * time.Second))
		s.Write(request{kind: kindGet, cids: cids}.append(nil))
		if _, err := readHeader(s); err != nil {
			refused++
		}
	}
	if refused != 2 {
		t.Errorf("%d streams refused, want 2", refused)
	}
}

func FuzzReadRequest(f *testing.F) {
	_, cids := randomBlocks(3, 10)
	f.Add(request{kind: kindHave, seq: 1, cids: cids}.append(nil))
	f.Add(request{kind: kindGet, seq: 2, cids: cids[:1]}.append(nil))
	f.Add(request{kind: kindCancel, seq: 3}.append(nil))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 73, 255})
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0x12, 0x20, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		q, err := readRequest(r)
		if err != nil {
			return
		}
		if again := q.append(nil); !bytes.Equal(again, b[:len(b)-r.Len()]) {
			t.Errorf("read %x, wrote %x", b[:len(b)-r.Len()], again)
		}
		if len(q.cids) > maxHaves {
			t.Errorf("%d CIDs", len(q.cids))
		}
	})
}

func FuzzReadHeader(f *testing.F) {
	f.Add(header{kind: kindBlock, seq: 1, length: maxBlock}.append(nil))
	f.Add(header{kind: kindHas, seq: 1, length: 64}.append(nil))
	f.Add(header{kind: kindBlock, status: statusRefused, seq: 1}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHeader(bytes.NewReader(b))
		if err == nil && (h.length > maxBlock || binary.BigEndian.Uint32(b[6:]) != h.length) {
			t.Errorf("%+v", h)
		}
	})
}

// BenchmarkFetch moves 64 MiB over loopback, both ends in one process.
func BenchmarkFetch(b *testing.B) {
	blocks, cids := randomBlocks(64, maxBlock)
	hs := make([]*p2p.Host, 2)
	for i := range hs {
		h, err := p2p.New(p2p.Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
		if err != nil {
			b.Fatal(err)
		}
		defer h.Close()
		hs[i] = h
	}
	New(hs[0], newStore(blocks...), nil)
	if err := hs[1].Connect(b.Context(), hs[0].Addrs()[0]); err != nil {
		b.Fatal(err)
	}
	store := newStore()
	x := New(hs[1], store, nil)
	b.SetBytes(64 << 20)
	for b.Loop() {
		clear(store.m)
		if err := x.Fetch(b.Context(), cids, func() []record.PeerID { return []record.PeerID{hs[0].ID()} }, nil); err != nil {
			b.Fatal(fmt.Errorf("fetch: %w", err))
		}
	}
}
