package p2p

import (
	"cmp"
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// presence decides which peers are up. It is a plain state machine: the caller brings the time (since the host's
// start) and guards it. Each method returns the peers whose state changed.
//
// Invariant: a peer is in the map from its hello until gone; up implies heard within SilenceLimit of the last tick.
type presence struct {
	peers map[record.PeerID]*present
	last  time.Duration // of the latest tick
}

type present struct {
	boot  uint64
	heard time.Duration
	up    bool
}

// hello says that the peer greeted with boot. dead is when its former process was last heard of, if this is another and
// that one has missed two pings; else it may be alive: a clone.
func (p *presence) hello(id record.PeerID, boot uint64, now time.Duration) (changed []record.PeerID, dead time.Duration) {
	s := p.peers[id]
	if s != nil && s.up && s.boot == boot {
		s.heard = max(s.heard, now)
		return nil, 0
	}
	if s != nil && s.boot != boot && now-s.heard > 2*PingEvery+PingEvery/2 {
		dead = s.heard
	}
	p.peers[id] = &present{boot: boot, heard: now, up: true}
	return []record.PeerID{id}, dead
}

// gone says that no connection to the peer is left.
func (p *presence) gone(id record.PeerID) []record.PeerID {
	s := p.peers[id]
	delete(p.peers, id)
	if s == nil || !s.up {
		return nil
	}
	return []record.PeerID{id}
}

// tick takes when each peer was last heard and applies the silence limit. A tick that comes late means that this very
// process stood still: then nobody else is blamed for the pause.
func (p *presence) tick(now time.Duration, heard func(record.PeerID) time.Duration) []record.PeerID {
	stalled := now-p.last > SilenceLimit/2
	p.last = now
	var changed []record.PeerID
	for id, s := range p.peers {
		s.heard = max(s.heard, heard(id))
		if stalled {
			s.heard = now
		}
		if up := now-s.heard <= SilenceLimit; up != s.up {
			s.up = up
			changed = append(changed, id)
		}
	}
	slices.SortFunc(changed, cmp.Compare[record.PeerID])
	return changed
}

// state is what watchers are told: the boot id of a peer that is up, else 0.
func (p *presence) state(id record.PeerID) (boot uint64) {
	if s := p.peers[id]; s != nil && s.up {
		return s.boot
	}
	return 0
}
