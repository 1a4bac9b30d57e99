// Package simnet is a network in memory and in virtual time, for running state machines by the thousand.
//
// A Net has nodes, one event queue and one seed. There is no goroutine and no clock: Step takes the next event, moves
// virtual time to it and calls the node it belongs to. The same seed and the same calls give the same run, so a failing
// schedule is repeated by its seed alone, and the last events are kept for the failure's report (Dump).
//
// Messages between two nodes travel over links with latency, jitter, bandwidth and loss. Between the same two nodes
// messages keep their order, small ones (up to SmallSize bytes) among themselves and bulk among itself: they stand for
// different streams, and small ones do not wait for bulk. Nodes can be killed, restarted (under a new boot id), frozen
// and thawed; pairs can be cut in one or both directions, the network can be partitioned and healed.
//
// A Net belongs to one goroutine. Messages are handed over as they are: sender and receiver share them and must not
// change them.
package simnet

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// SmallSize is the largest message that does not wait for bandwidth, bytes.
const SmallSize = 16 << 10

// Config says how the network behaves where nothing else is said. The zero value is a perfect network.
type Config struct {
	Latency     time.Duration // one way
	Jitter      time.Duration // up to this much is added, uniformly
	BytesPerSec float64       // up and down of each node; 0: unlimited
	Loss        float64       // probability that a message is lost
	Detect      time.Duration // how long after a change of reachability a node notices it
	Trace       int           // events kept for Dump; 0: 200
}

// Handler is what a node does. Any field may be nil.
type Handler struct {
	Receive func(from record.PeerID, msg any)
	Peer    func(id record.PeerID, up bool) // reachability of a node this one has had to do with, Detect after it changed
	Lost    func(to record.PeerID, msg any) // a message of this node did not arrive, Detect after it was due
}

// Net is a simulated network.
type Net struct {
	cfg    Config
	rng    *rand.Rand
	now    time.Duration
	queue  queue
	nodes  map[record.PeerID]*Node
	order  []record.PeerID // nodes in order of their first start
	cuts   map[pair]bool
	groups map[record.PeerID]int // of a partition
	trace  ring
}

// pair is a direction between two nodes.
type pair struct{ from, to record.PeerID }

// New returns a network without nodes at virtual time 0.
func New(seed uint64, cfg Config) *Net {
	if cfg.Trace == 0 {
		cfg.Trace = 200
	}
	return &Net{
		cfg: cfg, rng: rand.New(rand.NewPCG(seed, 0x5117)), nodes: map[record.PeerID]*Node{},
		cuts: map[pair]bool{}, trace: ring{events: make([]traced, 0, cfg.Trace), size: cfg.Trace},
	}
}

// Now is the virtual time since New.
func (n *Net) Now() time.Duration { return n.now }

// Rand is the network's source of chance, for schedules that should follow from the same seed.
func (n *Net) Rand() *rand.Rand { return n.rng }

// After calls fn once d has passed, whatever happens to nodes.
func (n *Net) After(d time.Duration, fn func()) { n.push(d, event{kind: timer, fn: fn}) }

// Step takes the next event; false: there is none.
func (n *Net) Step() bool {
	e, ok := n.queue.pop()
	if !ok {
		return false
	}
	n.now = max(n.now, e.at)
	n.perform(e)
	return true
}

// Run takes all events up to virtual time until, and leaves the clock there.
func (n *Net) Run(until time.Duration) {
	for n.queue.next() <= until && n.Step() {
	}
	n.now = max(n.now, until)
}

// Pending is the number of events in the queue.
func (n *Net) Pending() int { return len(n.queue.events) }

// Send takes a message from a node on its way. size is what it would have on a wire, bytes.
func (n *Net) Send(from, to record.PeerID, msg any, size int) {
	a, b := n.nodes[from], n.nodes[to]
	if a == nil || a.dead {
		return
	}
	if b == nil || !n.open(from, to) || n.cfg.Loss > 0 && n.rng.Float64() < n.cfg.Loss {
		n.lose(a, to, msg)
		return
	}
	n.Connect(from, to)
	e := event{kind: message, node: b, peer: from, sender: a, msg: msg}
	e.at = n.arrival(a, b, size)
	n.queue.push(e)
}

// Connect makes two nodes know each other, so that each hears of the other's coming and going.
func (n *Net) Connect(a, b record.PeerID) {
	x, y := n.nodes[a], n.nodes[b]
	if x == nil || y == nil || a == b {
		return
	}
	for _, d := range [][2]*Node{{x, y}, {y, x}} {
		if !d[0].knows[d[1].id] {
			d[0].knows[d[1].id] = true
			d[0].peers = append(d[0].peers, d[1].id)
			n.push(n.cfg.Latency, event{kind: look, node: d[0], peer: d[1].id})
		}
	}
}

// arrival is when a message of size bytes sent now gets there: through the sender's uplink, the wire and the receiver's
// downlink, never before an earlier one of its kind.
func (n *Net) arrival(a, b *Node, size int) time.Duration {
	at := n.now + n.cfg.Latency + a.delay + b.delay
	if n.cfg.Jitter > 0 {
		at += time.Duration(n.rng.Int64N(int64(n.cfg.Jitter)))
	}
	last := a.lastSmall
	if size > SmallSize {
		last = a.lastBulk
		a.upFree = max(a.upFree, n.now) + transmit(size, a.up)
		at += a.upFree - n.now
		b.downFree = max(at, b.downFree+transmit(size, b.down))
		at = b.downFree
	}
	at = max(at, last[b.id])
	last[b.id] = at
	return at
}

func transmit(size int, bytesPerSec float64) time.Duration {
	if bytesPerSec <= 0 {
		return 0
	}
	return time.Duration(float64(size) / bytesPerSec * float64(time.Second))
}

// perform gives an event to whom it belongs.
func (n *Net) perform(e event) {
	if e.node != nil && !n.awake(e) {
		return
	}
	switch e.kind {
	case timer:
		e.fn()
	case look:
		n.look(e.node, e.peer)
	case lost:
		n.note("lost", e.node.id, e.peer, e.msg)
		if e.node.Handler.Lost != nil {
			e.node.Handler.Lost(e.peer, e.msg)
		}
	case message:
		if !n.open(e.peer, e.node.id) {
			n.lose(e.sender, e.node.id, e.msg)
			return
		}
		n.note("", e.peer, e.node.id, e.msg)
		if e.node.Handler.Receive != nil {
			e.node.Handler.Receive(e.peer, e.msg)
		}
	}
}

// awake says whether a node can take an event now; a frozen one takes it when it thaws.
func (n *Net) awake(e event) bool {
	switch {
	case e.node.dead:
		if e.kind == message {
			n.lose(e.sender, e.node.id, e.msg)
		}
		return false
	case e.node.frozen:
		e.node.held = append(e.node.held, e)
		return false
	}
	return true
}

func (n *Net) lose(sender *Node, to record.PeerID, msg any) {
	n.push(n.cfg.Detect, event{kind: lost, node: sender, peer: to, msg: msg})
}

func (n *Net) push(d time.Duration, e event) {
	e.at = n.now + max(d, 0)
	n.queue.push(e)
}

// Logf adds a line to the trace.
func (n *Net) Logf(format string, args ...any) {
	n.trace.add(traced{at: n.now, text: func() string { return fmt.Sprintf(format, args...) }})
}
