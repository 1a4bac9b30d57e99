package p2p

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Watch calls fn whenever a peer comes up or goes down, and at first for each peer that is up now. A peer that
// restarted without our noticing is told as down, then up. stop ends the calls and waits for a running one; it must not be
// called from fn.
func (h *Host) Watch(fn func(id record.PeerID, up bool)) (stop func()) {
	w := &watcher{fn: fn, told: map[record.PeerID]uint64{}, wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return func() {}
	}
	h.watchers = append(h.watchers, w)
	for id := range h.presence.peers {
		w.mark(id)
	}
	h.wg.Go(func() { w.run(h) })
	return sync.OnceFunc(func() {
		close(w.quit)
		<-w.done
		h.dropWatcher(w)
	})
}

func (h *Host) dropWatcher(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.watchers {
		if h.watchers[i] == w {
			h.watchers = append(h.watchers[:i:i], h.watchers[i+1:]...)
			return
		}
	}
}

// watcher brings one callback from what it was told to what is. It keeps the peers to look at, not the changes:
// so a slow callback costs no more memory than there are peers.
type watcher struct {
	fn   func(record.PeerID, bool)
	told map[record.PeerID]uint64 // boot ids of the peers told as up; only run uses it
	wake chan struct{}
	quit chan struct{} // closed by stop
	done chan struct{} // closed by run

	// Guarded by Host.mu:
	order []record.PeerID
	dirty map[record.PeerID]bool
}

// mark notes that id may have changed. The caller holds Host.mu.
func (w *watcher) mark(id record.PeerID) {
	if w.dirty[id] {
		return
	}
	if w.dirty == nil {
		w.dirty = map[record.PeerID]bool{}
	}
	w.dirty[id] = true
	w.order = append(w.order, id)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) run(h *Host) {
	defer close(w.done)
	for {
		select {
		case <-w.quit:
			return
		case <-h.ctx.Done():
			return
		case <-w.wake:
		}
		for {
			id, boot, ok := w.next(h)
			if !ok {
				break
			}
			w.tell(id, boot)
		}
	}
}

// next takes the first marked peer and its present state.
func (w *watcher) next(h *Host) (id record.PeerID, boot uint64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(w.order) == 0 || h.closed {
		return "", 0, false
	}
	id = w.order[0]
	w.order = w.order[1:]
	delete(w.dirty, id)
	return id, h.presence.state(id), true
}

func (w *watcher) tell(id record.PeerID, boot uint64) {
	old := w.told[id]
	if old == boot {
		return
	}
	if old != 0 {
		delete(w.told, id)
		w.fn(id, false)
	}
	if boot != 0 {
		w.told[id] = boot
		w.fn(id, true)
	}
}

// changed tells the watchers. The caller holds h.mu.
func (h *Host) changed(ids []record.PeerID) {
	for _, w := range h.watchers {
		for _, id := range ids {
			w.mark(id)
		}
	}
}

// heartbeat applies the silence limit, and forgets who left, until the host closes. The pings themselves are sent by the
// control streams.
func (h *Host) heartbeat() {
	tick, sweep := time.NewTicker(SilenceLimit/20), time.NewTicker(goneEvery)
	defer tick.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-tick.C:
			h.mu.Lock()
			h.changed(h.presence.tick(h.now(), h.heard))
			h.mu.Unlock()
		case <-sweep.C:
			h.forgetGone(h.now()-goneLife, goneLimit)
		}
	}
}

// heard is when the peer last gave a sign of life. The caller holds h.mu.
func (h *Host) heard(id record.PeerID) time.Duration {
	if l := h.lives[id]; l != nil {
		return time.Duration(l.heard.Load())
	}
	return 0
}

// life returns the shared record of a peer's signs of life.
func (h *Host) life(id record.PeerID) *life {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lives[id]
	if l == nil {
		l = &life{now: h.now}
		h.lives[id] = l
	}
	return l
}

func (h *Host) connected(_ network.Network, c network.Conn) {
	id := record.PeerID(c.RemotePeer().String())
	h.mu.Lock()
	h.gone.back(id)
	h.mu.Unlock()
	h.control.wanted(id)
	h.settle(c.RemotePeer())
}

func (h *Host) disconnected(_ network.Network, c network.Conn) {
	h.left(record.PeerID(c.RemotePeer().String()))
}

// left reports the peer gone if no connection to it is open any more.
func (h *Host) left(id record.PeerID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isConnected(id) || h.control.greeted(id) {
		return
	}
	h.changed(h.presence.gone(id))
	delete(h.lives, id)
	h.gone.add(id, h.now())
}

func (h *Host) isConnected(id record.PeerID) bool {
	p, err := decodeID(id)
	if err != nil {
		return false
	}
	c := h.host.Network().Connectedness(p)
	return c == network.Connected || c == network.Limited
}

// hello records the greeting on a peer's control stream.
func (h *Host) hello(s *Stream, boot uint64) (cloned bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lives[s.peer] == nil {
		h.lives[s.peer] = s.life
	}
	changed, dead := h.presence.hello(s.peer, boot, h.now())
	h.changed(changed)
	if dead > 0 {
		h.wg.Go(func() { h.closeOld(s.s.Conn(), h.start.Add(dead)) })
	}
	if cloned = h.clones.Seen(s.peer, boot); cloned {
		h.noteClone(s.peer)
	}
	return cloned
}

// closeOld closes the connections that a peer's dead process left: after a power failure they look alive for half a
// minute, and libp2p would open streams on them.
func (h *Host) closeOld(now network.Conn, dead time.Time) {
	for _, c := range h.host.Network().ConnsToPeer(now.RemotePeer()) {
		if c != now && c.Stat().Opened.Before(dead) {
			c.Close()
		}
	}
}

// noteClone remembers, and logs once, that an identity runs twice. The caller holds h.mu.
func (h *Host) noteClone(id record.PeerID) {
	if h.cloned[id] || len(h.cloned) >= 64 {
		return
	}
	h.cloned[id] = true
	h.cfg.Log.Warn("one identity runs on two machines; give one of them a new home directory", "peer", id, "self", id == h.id)
}

// Clones lists identities, perhaps this node's own, that two processes were seen to use at once.
func (h *Host) Clones() []record.PeerID {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []record.PeerID
	for id := range h.cloned {
		out = append(out, id)
	}
	return out
}
