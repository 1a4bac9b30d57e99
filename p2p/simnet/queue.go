package simnet

import (
	"math"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

type kind uint8

const (
	timer kind = iota
	message
	lost
	look
)

// event is one thing that will happen. node is whose it is; nil: the network's own.
type event struct {
	at     time.Duration
	seq    uint64 // order of events at the same instant
	kind   kind
	node   *Node
	peer   record.PeerID // message: from; lost: to; look: at whom
	sender *Node
	msg    any
	fn     func()
}

// queue is a binary heap by (at, seq).
type queue struct {
	events []event
	seq    uint64
}

func (q *queue) less(i, j int) bool {
	a, b := &q.events[i], &q.events[j]
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

func (q *queue) push(e event) {
	q.seq++
	e.seq = q.seq
	q.events = append(q.events, e)
	for i := len(q.events) - 1; i > 0; {
		p := (i - 1) / 2
		if !q.less(i, p) {
			return
		}
		q.events[i], q.events[p] = q.events[p], q.events[i]
		i = p
	}
}

func (q *queue) pop() (event, bool) {
	if len(q.events) == 0 {
		return event{}, false
	}
	top, n := q.events[0], len(q.events)-1
	q.events[0], q.events[n] = q.events[n], event{}
	q.events = q.events[:n]
	for i := 0; ; {
		c := 2*i + 1
		if c >= n {
			return top, true
		}
		if c+1 < n && q.less(c+1, c) {
			c++
		}
		if !q.less(c, i) {
			return top, true
		}
		q.events[i], q.events[c] = q.events[c], q.events[i]
		i = c
	}
}

// next is when the next event happens.
func (q *queue) next() time.Duration {
	if len(q.events) == 0 {
		return math.MaxInt64
	}
	return q.events[0].at
}
