package p2p

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// libp2p keeps the addresses and the signed record of a peer that left for a quarter of an hour, and keys and protocols
// for a minute. Who comes and goes under ever new identities must not make a node grow, so it forgets. (Most of what
// shows right after a thousand leaves, 2 KiB each, is the resource manager's: it clears that once a minute.)
const (
	goneLimit = 128             // peers remembered after they left
	goneLife  = 5 * time.Minute // a peer whose address changed or whose link flaps is back by then; a guess
	goneEvery = time.Second     // between looks
)

// gone lists the peers that left, in the order of leaving. It is plain data: its owner guards it.
type gone struct {
	order []departure
	since map[record.PeerID]time.Duration // the valid departure of each peer in order
}

type departure struct {
	id record.PeerID
	at time.Duration // since the host's start
}

// add notes that id left at now; an earlier departure of it counts no more.
func (g *gone) add(id record.PeerID, now time.Duration) {
	if g.since == nil {
		g.since = map[record.PeerID]time.Duration{}
	}
	if at, ok := g.since[id]; ok && at == now {
		return
	}
	g.since[id] = now
	g.order = append(g.order, departure{id, now})
}

// back notes that id is here again.
func (g *gone) back(id record.PeerID) { delete(g.since, id) }

// due takes out those who left before a time, and beyond limit those who left longest ago.
func (g *gone) due(before time.Duration, limit int) (ids []record.PeerID) {
	n := 0
	for _, d := range g.order {
		at, valid := g.since[d.id]
		switch {
		case !valid || at != d.at: // it came back, or left again later
		case d.at < before || len(g.since) > limit:
			ids = append(ids, d.id)
			delete(g.since, d.id)
		default:
			g.order[n] = d
			n++
		}
	}
	clear(g.order[n:])
	g.order = g.order[:n]
	return ids
}

// forgetGone makes libp2p forget the peers that left before a time (since the host's start) or are too many. Protected ones, as
// members of a job, wait for another look: messages to them dial the addresses they had.
func (h *Host) forgetGone(before time.Duration, limit int) {
	h.mu.Lock()
	ids := h.gone.due(before, limit)
	h.mu.Unlock()
	for _, id := range ids {
		p, err := decodeID(id)
		switch {
		case err != nil || h.isConnected(id):
		case h.host.ConnManager().IsProtected(p, "") || h.control.waits(id):
			h.mu.Lock()
			h.gone.add(id, h.now())
			h.mu.Unlock()
		default:
			h.erase(p)
		}
	}
}

// erase empties libp2p's books of a peer; RemovePeer alone leaves the addresses.
func (h *Host) erase(p peer.ID) {
	h.host.Peerstore().RemovePeer(p)
	h.host.Peerstore().ClearAddrs(p)
}
