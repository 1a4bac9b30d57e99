package xfer

import (
	"slices"
	"sync"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// class says what a lane is for.
const (
	small   = 0 // transfers of at most smallSize bytes
	bulk    = 1
	classes = 2

	smallSize = 32 << 10 // bytes
)

func classOf(t *Transfer) int {
	if t.Size <= smallSize {
		return small
	}
	return bulk
}

// queue holds what waits for a lane, in order; what is Later behind everything else.
type queue struct{ now, later []*Transfer }

func (q *queue) push(t *Transfer) {
	if t.Later {
		q.later = append(q.later, t)
	} else {
		q.now = append(q.now, t)
	}
}

func (q *queue) pop() *Transfer {
	at := &q.now
	if len(*at) == 0 {
		at = &q.later
	}
	if len(*at) == 0 {
		return nil
	}
	t := (*at)[0]
	(*at)[0] = nil
	*at = (*at)[1:]
	return t
}

func (q *queue) len() int { return len(q.now) + len(q.later) }

// clear empties it.
func (q *queue) clear() []*Transfer {
	all := slices.Concat(q.now, q.later)
	*q = queue{}
	return all
}

// peer is what is on its way to one peer: a queue and some lanes per class.
type peer struct {
	x    *Xfer
	id   record.PeerID
	wake [classes]chan struct{} // a token for each lane that should look at its queue

	mu    sync.Mutex // guards the rest
	queue [classes]queue
	lanes [classes]int // running
	up    [classes]int // of those, with a stream
	idle  [classes]int // of those, waiting for something to send
	far   bool         // see distant
}

func newPeer(x *Xfer, id record.PeerID) *peer {
	p := &peer{x: x, id: id}
	for c := range p.wake {
		p.wake[c] = make(chan struct{}, x.lanes(c))
	}
	return p
}

// lanes is the most lanes of a class to one peer.
func (x *Xfer) lanes(class int) int {
	if class == small {
		return 1
	}
	return x.cfg.BulkLanes
}

// push queues a transfer and sees that lanes run.
func (p *peer) push(t *Transfer) {
	c := classOf(t)
	p.mu.Lock()
	t.Later = t.Later || t.Spare && c == bulk && p.far
	p.queue[c].push(t)
	if c == bulk && !t.Later {
		p.x.patient.press(1)
	}
	p.mu.Unlock()
	p.start(c)
	p.signal(c)
	if p.x.ctx.Err() != nil { // no lane starts any more
		p.failAll(errClosed)
	}
}

func (p *peer) signal(c int) {
	select {
	case p.wake[c] <- struct{}{}:
	default: // a token for every lane is there already
	}
}

// start adds a lane if there is more to send than lanes waiting for it.
func (p *peer) start(c int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	most := p.x.lanes(c)
	if c == bulk && (p.far || p.up[c] == 0) { // the first lane shows how far away the peer is
		most = 1
	}
	if p.lanes[c] >= most || p.queue[c].len() <= p.idle[c] {
		return
	}
	l := &lane{peer: p, class: c, wake: make(chan struct{}, 1), open: map[uint32]*sending{}, window: firstWindow}
	if c == small {
		l.window = smallWindow
	}
	if p.x.spawn(l.run) {
		p.lanes[c]++
	}
}

// pop takes the next transfer, or nil. Lanes for bulk call written when they are through with it.
func (p *peer) pop(c int) *Transfer {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := &p.queue[c]
	if c == bulk && len(q.now) == 0 && len(q.later) > 0 {
		p.x.patient.wait(p)
		if !p.x.patient.begin() {
			return nil
		}
	}
	return q.pop()
}

// written ends what pop began.
func (p *peer) written(c int, t *Transfer) {
	switch {
	case c != bulk:
	case t.Later:
		p.x.patient.end()
	default:
		p.x.patient.press(-1)
	}
}

// opened counts a lane that got its stream, and starts the next.
func (p *peer) opened(c int, far bool) {
	p.mu.Lock()
	p.up[c]++
	p.far = far
	p.mu.Unlock()
	p.start(c)
}

// clear empties a queue. Called with mu held.
func (p *peer) clear(c int) []*Transfer {
	if c == bulk {
		p.x.patient.press(-len(p.queue[c].now))
	}
	return p.queue[c].clear()
}

// count notes that a lane got or lost its stream, or begins or ends waiting.
func (p *peer) count(n *[classes]int, c, by int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n[c] += by
}

// leave ends a lane. If it could not be opened and no other has a stream, the peer is not reachable: the queue fails,
// and whoever sends decides when to try again.
func (p *peer) leave(c int, openErr error) {
	p.mu.Lock()
	p.lanes[c]--
	var failed []*Transfer
	if openErr == nil {
		p.up[c]--
	} else if p.up[c] == 0 {
		failed = p.clear(c)
	}
	p.mu.Unlock()
	for _, t := range failed {
		t.Done(openErr)
	}
	switch {
	case p.x.ctx.Err() != nil:
		p.failAll(errClosed)
	case openErr == nil:
		p.start(c)
	}
	p.x.forget(p)
}

// forget drops a peer without lanes. One that is just being pushed to works on, unlisted.
func (x *Xfer) forget(p *peer) {
	p.mu.Lock()
	empty := p.lanes == [classes]int{}
	p.mu.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	if empty && x.peers[p.id] == p {
		delete(x.peers, p.id)
	}
}

func (p *peer) failAll(err error) {
	p.mu.Lock()
	var failed []*Transfer
	for c := range p.queue {
		failed = append(failed, p.clear(c)...)
	}
	p.mu.Unlock()
	for _, t := range failed {
		t.Done(err)
	}
}
