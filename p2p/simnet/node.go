package simnet

import (
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Node is one run of a process.
type Node struct {
	Handler Handler

	net    *Net
	id     record.PeerID
	boot   uint64
	dead   bool
	frozen bool
	held   []event // what came while frozen

	knows map[record.PeerID]bool // nodes it has had to do with
	peers []record.PeerID        // the same in order of acquaintance
	sees  map[record.PeerID]bool // what Handler.Peer last said

	up, down            float64 // bytes per second; 0: unlimited
	upFree, downFree    time.Duration
	delay               time.Duration
	lastSmall, lastBulk map[record.PeerID]time.Duration // latest arrival there
}

// Node adds a node, or restarts one under a new boot id: what its earlier run had pending is gone.
func (n *Net) Node(id record.PeerID, h Handler) *Node {
	old := n.nodes[id]
	node := &Node{
		Handler: h, net: n, id: id, boot: n.rng.Uint64(), knows: map[record.PeerID]bool{}, sees: map[record.PeerID]bool{},
		up: n.cfg.BytesPerSec, down: n.cfg.BytesPerSec,
		lastSmall: map[record.PeerID]time.Duration{}, lastBulk: map[record.PeerID]time.Duration{},
	}
	if old != nil {
		n.Kill(id)
		node.up, node.down, node.delay = old.up, old.down, old.delay
	}
	if old == nil {
		n.order = append(n.order, id)
	}
	n.nodes[id] = node
	n.note("start", id, "", nil)
	if old != nil {
		for _, p := range old.peers {
			n.Connect(id, p)
		}
		n.lookAround(id)
	}
	return node
}

// ID is the node's name, Boot the number of this run of it.
func (n *Node) ID() record.PeerID { return n.id }

// Boot is the random number of this run.
func (n *Node) Boot() uint64 { return n.boot }

// Alive says whether this run goes on, frozen or not.
func (n *Node) Alive() bool { return !n.dead }

// After calls fn once d has passed, unless the node dies first; on a frozen node, when it thaws.
func (n *Node) After(d time.Duration, fn func()) {
	n.net.push(d, event{kind: timer, node: n, fn: fn})
}

// Send sends from this node, if this run of it still lives.
func (n *Node) Send(to record.PeerID, msg any, size int) {
	if !n.dead {
		n.net.Send(n.id, to, msg, size)
	}
}

// SetRate sets a node's bandwidth, bytes per second; 0 is unlimited.
func (n *Net) SetRate(id record.PeerID, up, down float64) {
	if x := n.nodes[id]; x != nil {
		x.up, x.down = up, down
	}
}

// SetDelay adds latency to everything a node sends and gets.
func (n *Net) SetDelay(id record.PeerID, d time.Duration) {
	if x := n.nodes[id]; x != nil {
		x.delay = d
		n.Logf("%s is delayed by %v", id, d)
	}
}
