package blocks

import (
	"context"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
)

const (
	syncWithin = 50 * time.Millisecond // in which at most maxSyncs blocks wait for the disk
	maxSyncs   = 3
	pairWithin = 10 * time.Millisecond // blocks that follow each other faster are verified in twos
)

// pairing brings together blocks that arrive shortly after each other, because a store may verify two in the time of one.
// Each is put by a goroutine of its own: the first waits, the second puts both.
type pairing struct {
	mu      sync.Mutex // guards the rest
	waiting *arrival   // nil: nobody waits
	last    time.Time  // when the latest block came
}

// arrival is a block to be put.
type arrival struct {
	c    cid.Cid
	data []byte
	err  error // of putting it; set before done is closed
	done chan struct{}
}

// meet returns the block that waits for another, or else whether a should wait.
func (p *pairing) meet(a *arrival) (other *arrival, wait bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	soon := now.Sub(p.last) < pairWithin
	p.last = now
	if other = p.waiting; other != nil {
		p.waiting = nil
		return other, false
	}
	if soon {
		p.waiting = a
	}
	return nil, soon
}

// part is true if nobody took a meanwhile: then nobody will.
func (p *pairing) part(a *arrival) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting != a {
		return false
	}
	p.waiting = nil
	return true
}

// put stores a block that arrived in a buffer.
func (f *fetch) put(ctx context.Context, c cid.Cid, data []byte) error {
	store, ok := f.x.store.(Pairs)
	if !ok || f.lonely() {
		return f.x.put(ctx, c, data)
	}
	a := &arrival{c: c, data: data, done: make(chan struct{})}
	other, wait := f.pairs.meet(a)
	switch {
	case other != nil:
		a.err, other.err = f.x.putTwo(ctx, store, a, other)
		close(other.done)
		return a.err
	case !wait:
		return f.x.put(ctx, c, data)
	}
	patience := time.NewTimer(pairWithin)
	defer patience.Stop()
	select {
	case <-a.done:
		return a.err
	case <-patience.C:
	}
	if f.pairs.part(a) {
		return f.x.put(ctx, c, data)
	}
	<-a.done
	return a.err
}

// lonely reports that no other block is on its way.
func (f *fetch) lonely() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for d := range f.sessions {
		if len(d.queue) > 0 {
			return false
		}
	}
	return true
}

// put stores one block. On a link of less than 60 MB/s each is durable at once; on a faster one only some are, and what came
// before with them.
func (x *Exchange) put(ctx context.Context, c cid.Cid, data []byte) error {
	l, ok := x.store.(Later)
	if !ok || x.syncs.due() {
		return x.store.Put(ctx, c, data)
	}
	return l.PutLater(ctx, c, data)
}

func (x *Exchange) putTwo(ctx context.Context, store Pairs, a, b *arrival) (errA, errB error) {
	errA, errB = store.PutTwoLater(ctx, a.c, b.c, a.data, b.data)
	if !x.syncs.due() {
		return errA, errB
	}
	if err := store.Sync(ctx); err != nil && errA == nil {
		errA = err
	}
	return errA, errB
}

// syncs are the times of the latest waits for the disk.
type syncs struct {
	mu    sync.Mutex // guards the rest
	times [maxSyncs]time.Time
	next  int // the oldest
}

// due takes the turn to wait for the disk, if there is one.
func (s *syncs) due() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.times[s.next]) < syncWithin {
		return false
	}
	s.times[s.next] = now
	s.next = (s.next + 1) % maxSyncs
	return true
}
