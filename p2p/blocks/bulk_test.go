package blocks

import (
	"context"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// While there is plenty to fetch, a connection for bulk takes over from the ordinary stream, and only those bring the rest.
func TestFetchOverBulk(t *testing.T) {
	blocks, cids := randomBlocks(80, 400_000)
	const first = 10 // blocks that are given before there is a connection for bulk
	began := make(chan struct{})
	var once sync.Once
	var mu sync.Mutex // guards given
	given := 0
	a := startNode(t, newStore(blocks...), func(record.PeerID, cid.Cid) bool {
		mu.Lock()
		given++
		wait := given > len(blocks)+first // every block was asked about once before
		mu.Unlock()
		if wait {
			<-began
		}
		return true
	})
	a.HandleBulk(protocol, func(s *p2p.Stream) {
		once.Do(func() { close(began) })
		a.x.serve(s, true)
	})
	t.Cleanup(func() { once.Do(func() { close(began) }) }) // a failed test ends too
	c := startNode(t, newStore(), nil)
	if err := c.x.Fetch(within(t), cids, c.connect(t, a), nil); err != nil {
		t.Fatal(err)
	}
	c.wantAll(t, cids)
}

// Where there can be no connection for bulk, ordinary streams do all.
func TestFetchWithoutBulk(t *testing.T) {
	blocks, cids := randomBlocks(60, 100_000)
	for name, limit := range map[string]func(a, c node){
		"a cap":         func(_, c node) { c.SetCaps(p2p.Caps{Down: 1 << 30}) },
		"nobody serves": func(a, _ node) { a.UnhandleBulk(protocol) },
	} {
		t.Run(name, func(t *testing.T) {
			a, c := startNode(t, newStore(blocks...), nil), startNode(t, newStore(), nil)
			limit(a, c)
			if err := c.x.Fetch(within(t), cids, c.connect(t, a), nil); err != nil {
				t.Fatal(err)
			}
			c.wantAll(t, cids)
		})
	}
}

// A connection for bulk that breaks costs what was under way on it.
func TestBulkBreaks(t *testing.T) {
	blocks, cids := randomBlocks(80, 400_000)
	a, c := startNode(t, newStore(blocks...), nil), startNode(t, newStore(), nil)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	var once sync.Once
	a.HandleBulk(protocol, func(s *p2p.Stream) {
		cut := false
		once.Do(func() { cut = true })
		if cut {
			s.Reset()
			return
		}
		a.x.serve(s, true)
	})
	if err := c.x.Fetch(ctx, cids, c.connect(t, a), nil); err != nil {
		t.Fatal(err)
	}
	c.wantAll(t, cids)
}
