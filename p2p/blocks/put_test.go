package blocks

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
)

// pairStore is a memStore that takes two blocks at once.
type pairStore struct {
	*memStore
	twos, synced atomic.Int64
}

func (s *pairStore) PutLater(ctx context.Context, c cid.Cid, data []byte) error {
	return s.Put(ctx, c, append([]byte{}, data...)) // the memory is used again
}

func (s *pairStore) Put(ctx context.Context, c cid.Cid, data []byte) error {
	return s.memStore.Put(ctx, c, append([]byte{}, data...))
}

func (s *pairStore) PutTwoLater(ctx context.Context, c, d cid.Cid, a, b []byte) (errA, errB error) {
	s.twos.Add(1)
	return s.PutLater(ctx, c, a), s.PutLater(ctx, d, b)
}

func (s *pairStore) Sync(context.Context) error {
	s.synced.Add(1)
	return nil
}

// TestPairs fetches from an honest donor and a liar into a store that takes blocks in twos: whoever's block is bad, the
// one that it was paired with is kept.
func TestPairs(t *testing.T) {
	blocks, cids := randomBlocks(64, 100_000)
	good, liar := startNode(t, newStore(blocks...), nil), startNode(t, newStore(blocks...), nil)
	liar.store.lies.Store(true)
	c := startNode(t, newStore(), nil)
	s := &pairStore{memStore: c.store}
	c.x.store = s
	if err := c.x.Fetch(within(t), cids, c.connect(t, liar, good), nil); err != nil {
		t.Fatal(err)
	}
	if s.len() != 64 || s.twos.Load() == 0 || s.synced.Load() == 0 {
		t.Errorf("%d blocks, %d times two, synced %d times", s.len(), s.twos.Load(), s.synced.Load())
	}
}

// TestPairsFullStore ends with the store's error, whichever of the two met it.
func TestPairsFullStore(t *testing.T) {
	blocks, cids := randomBlocks(16, 100_000)
	good, c := startNode(t, newStore(blocks...), nil), startNode(t, newStore(), nil)
	c.store.full.Store(true)
	c.x.store = &pairStore{memStore: c.store}
	err := c.x.Fetch(within(t), cids, c.connect(t, good), nil)
	if !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
}

// TestSyncs lets each block of a slow link be durable at once, and of a fast one a few.
func TestSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s syncs
		count := func(every time.Duration) (n int) {
			for range 100 {
				if s.due() {
					n++
				}
				<-time.After(every)
			}
			return n
		}
		if n := count(syncWithin / maxSyncs * 11 / 10); n != 100 {
			t.Errorf("slow: %d of 100", n)
		}
		if n := count(syncWithin / 50); n != 2*maxSyncs {
			t.Errorf("fast: %d in two intervals", n)
		}
	})
}

// TestMeet says who waits for whom.
func TestMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pairing
		a, b, c, d := &arrival{}, &arrival{}, &arrival{}, &arrival{}
		meets := func(what string, a, want *arrival, wantWait bool) {
			t.Helper()
			if other, wait := p.meet(a); other != want || wait != wantWait {
				t.Errorf("%s: %v, %v", what, other, wait)
			}
		}
		meets("the first goes alone", a, nil, false)
		meets("one that follows it waits", b, nil, true)
		meets("for the next", c, b, false)
		if p.part(b) {
			t.Error("one that was taken thinks that it was not")
		}
		meets("again one waits", d, nil, true)
		if !p.part(d) || p.part(d) {
			t.Error("one that nobody took can leave, once")
		}
		<-time.After(2 * pairWithin)
		meets("one that comes late goes alone", a, nil, false)
	})
}
