package simnet

import "github.com/seed-7b27c88a/shoal/p2p/record"

// Kill ends a node's run: its timers never fire, messages to it are lost. Node restarts it.
func (n *Net) Kill(id record.PeerID) {
	x := n.nodes[id]
	if x == nil || x.dead {
		return
	}
	x.dead, x.frozen = true, false
	n.note("kill", id, "", nil)
	for _, e := range x.held {
		if e.kind == message {
			n.lose(e.sender, id, e.msg)
		}
	}
	x.held = nil
	n.lookAround(id)
}

// Freeze stops a node as SIGSTOP does: what comes for it waits, also its timers.
func (n *Net) Freeze(id record.PeerID) {
	if x := n.nodes[id]; x != nil && !x.dead && !x.frozen {
		x.frozen = true
		n.note("freeze", id, "", nil)
		n.lookAround(id)
	}
}

// Thaw lets a frozen node go on with what has waited, in order, now.
func (n *Net) Thaw(id record.PeerID) {
	x := n.nodes[id]
	if x == nil || !x.frozen {
		return
	}
	x.frozen = false
	n.note("thaw", id, "", nil)
	for _, e := range x.held {
		e.at = n.now
		n.queue.push(e)
	}
	x.held = nil
	n.lookAround(id)
}

// Cut loses everything between two nodes, both ways, what is underway included.
func (n *Net) Cut(a, b record.PeerID) {
	n.CutOneWay(a, b)
	n.CutOneWay(b, a)
}

// CutOneWay loses everything from one node to another.
func (n *Net) CutOneWay(from, to record.PeerID) {
	n.cuts[pair{from, to}] = true
	n.note("cut", from, to, nil)
	n.lookBoth(from, to)
}

// Mend undoes the cuts between two nodes.
func (n *Net) Mend(a, b record.PeerID) {
	delete(n.cuts, pair{a, b})
	delete(n.cuts, pair{b, a})
	n.note("mend", a, b, nil)
	n.lookBoth(a, b)
}

// Partition cuts the network into groups; a node that stands in none is in a group with the other such nodes.
func (n *Net) Partition(groups ...[]record.PeerID) {
	n.groups = map[record.PeerID]int{}
	for i, g := range groups {
		for _, id := range g {
			n.groups[id] = i + 1
		}
		n.Logf("partition %d: %v", i+1, g)
	}
	n.lookEverywhere()
}

// Heal ends the partition and mends all cuts.
func (n *Net) Heal() {
	n.groups = nil
	clear(n.cuts)
	n.Logf("heal")
	n.lookEverywhere()
}

// open says whether the way from one node to another is free.
func (n *Net) open(from, to record.PeerID) bool {
	return !n.cuts[pair{from, to}] && n.groups[from] == n.groups[to]
}

// Reachable says whether two running nodes can talk both ways.
func (n *Net) Reachable(a, b record.PeerID) bool {
	x, y := n.nodes[a], n.nodes[b]
	return x != nil && y != nil && !x.dead && !y.dead && !x.frozen && !y.frozen && n.open(a, b) && n.open(b, a)
}

// look tells a node when a peer it knows came or went.
func (n *Net) look(x *Node, peer record.PeerID) {
	up := n.Reachable(x.id, peer)
	if up == x.sees[peer] {
		return
	}
	x.sees[peer] = up
	n.note(map[bool]string{true: "up", false: "down"}[up], peer, x.id, nil)
	if x.Handler.Peer != nil {
		x.Handler.Peer(peer, up)
	}
}

// lookBoth, lookAround and lookEverywhere make the nodes concerned look, after the time of detection.
func (n *Net) lookBoth(a, b record.PeerID) {
	for _, d := range []pair{{a, b}, {b, a}} {
		if x := n.nodes[d.from]; x != nil && x.knows[d.to] {
			n.push(n.cfg.Detect, event{kind: look, node: x, peer: d.to})
		}
	}
}

func (n *Net) lookAround(id record.PeerID) {
	for _, p := range n.nodes[id].peers {
		n.lookBoth(id, p)
	}
}

func (n *Net) lookEverywhere() {
	for _, id := range n.order {
		x := n.nodes[id]
		for _, p := range x.peers {
			n.push(n.cfg.Detect, event{kind: look, node: x, peer: p})
		}
	}
}
