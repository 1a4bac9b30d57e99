package coord

import (
	"cmp"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/replog"
)

const (
	// slot is two election timeouts: the time in which a dead leader is replaced.
	slot = 2 * replog.ElectionTicks * TickEvery
	// deadAfter is how long a node may be silent; it beats every beatEvery.
	deadAfter = slot
	maxPeers  = 4 << 10
)

// peer is what this node knows of another one (or of itself) in this job.
type peer struct {
	id        record.PeerID
	boot      uint64
	cap       Capability
	down      bool          // its connection is closed
	since     time.Duration // of this run of it
	heard     time.Duration
	known     bool // has beaten in the log that this node follows, so that the fields below are true
	ready     bool // has the state of round and commit
	round     uint64
	commit    cid.Cid
	hash      collective.Hash
	head      cid.Cid
	leaving   bool
	apart     []record.PeerID // whom it cannot reach, by its word
	pace      time.Duration   // see Node.Pace; the leader knows it
	pushed    time.Duration   // when the last catch-up was sent
	pushes    int             // how many were sent for the same head; 0: none
	met       time.Duration   // last told how this node's log stands
	pushedFor cid.Cid         // the head it had then
}

// roster is the nodes of the job that this node has heard of, in order of their ids. Everybody keeps one: who becomes
// leader needs it.
type roster struct {
	self  Self
	peers []*peer
	links []record.PeerID // connected, of the job or not
}

func (r *roster) init(self Self) {
	r.self = self
	r.peers = []*peer{{id: self.ID, boot: self.Boot, known: true}}
}

func (r *roster) find(id record.PeerID) *peer {
	i, ok := slices.BinarySearchFunc(r.peers, id, func(p *peer, id record.PeerID) int { return cmp.Compare(p.id, id) })
	if !ok {
		return nil
	}
	return r.peers[i]
}

// forget drops whoever has been silent longest, if that is long enough; it makes room for newcomers.
func (r *roster) forget(now time.Duration) bool {
	oldest := -1
	for i, p := range r.peers {
		if p.id != r.self.ID && !p.alive(now) && (oldest < 0 || p.heard < r.peers[oldest].heard) {
			oldest = i
		}
	}
	if oldest >= 0 {
		r.peers = slices.Delete(r.peers, oldest, oldest+1)
	}
	return oldest >= 0
}

func (r *roster) me() *peer { return r.find(r.self.ID) }

// heard notes that a message of its signer came. Another boot id is another run, which has nothing of the old one.
func (r *roster) heard(o *opened, now time.Duration) bool {
	p := r.find(o.signer)
	if p == nil {
		if len(r.peers) >= maxPeers && !r.forget(now) {
			return false
		}
		p = &peer{id: o.signer, boot: o.header.Boot, since: now}
		i, _ := slices.BinarySearchFunc(r.peers, p.id, func(q *peer, id record.PeerID) int { return cmp.Compare(q.id, id) })
		r.peers = slices.Insert(r.peers, i, p)
	}
	if p.boot != o.header.Boot {
		if p.id == r.self.ID {
			return false // a copy of this node's home runs somewhere
		}
		*p = peer{id: p.id, boot: o.header.Boot, since: now}
	}
	p.heard, p.down = now, false
	return true
}

// lives tells whether a run of a node seems to be there. This node always does.
func (r *roster) lives(id record.PeerID, boot uint64, now time.Duration) bool {
	if id == r.self.ID {
		return boot == r.self.Boot
	}
	p := r.find(id)
	return p != nil && p.boot == boot && p.alive(now)
}

func (p *peer) alive(now time.Duration) bool { return !p.down && now < p.heard+deadAfter }

// alive lists who seems to be there, this node included.
func (r *roster) alive(now time.Duration) []*peer {
	ps := make([]*peer, 0, len(r.peers))
	for _, p := range r.peers {
		if p.known && (p.id == r.self.ID || p.alive(now)) {
			ps = append(ps, p)
		}
	}
	return ps
}

// near counts who seems to be there, whatever log it follows; this node included.
func (r *roster) near(now time.Duration) (n int) {
	for _, p := range r.peers {
		if p.id == r.self.ID || p.alive(now) {
			n++
		}
	}
	return n
}

// unknow waits for everybody to say anew that it follows this node's log, which has become another one. Not all may: for
// some the job is over.
func (r *roster) unknow() {
	for _, p := range r.peers {
		p.known = p.id == r.self.ID
	}
}

// excuse treats everyone as heard just now: a new leader has not been anybody's addressee so far.
func (r *roster) excuse(now time.Duration, ids []Row) {
	for _, row := range ids {
		p := r.find(row.ID)
		if p == nil {
			p = &peer{id: row.ID, boot: row.Boot, since: now, known: true}
			i, _ := slices.BinarySearchFunc(r.peers, p.id, func(q *peer, id record.PeerID) int { return cmp.Compare(q.id, id) })
			r.peers = slices.Insert(r.peers, i, p)
		}
		p.heard = now
	}
}

// peerChanged notes a connection that came or went.
func (m *Machine) peerChanged(id record.PeerID, up bool) {
	if id == m.self.ID {
		return
	}
	i, linked := slices.BinarySearch(m.peers.links, id)
	switch {
	case up && !linked && len(m.peers.links) < maxPeers:
		m.peers.links = slices.Insert(m.peers.links, i, id)
	case !up && linked:
		m.peers.links = slices.Delete(m.peers.links, i, i+1)
	}
	if p := m.peers.find(id); p != nil {
		p.down = !up
	}
	switch {
	case up && m.lead != nil:
		m.sendBeat(id, true) // it may follow another log of the job
	case up && m.guide.leader == "":
		m.me.beatAt = m.now // it may know who leads
	}
}
