package p2p

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// A relayed connection is a way to agree on a direct one (DCUtR). libp2p tries once, at the moment the connection
// comes in, and only if it knew its own outside address by then. puncher goes on: after 5 s, then less and less often, as long
// as only relayed connections to the peer are there. Once a direct one stands, the relayed ones are closed, so that
// everything moves over and the relay is free for others.

const (
	punchEvery  = time.Second // look for peers that are due
	punchFirst  = 3 * time.Second
	punchMax    = 10 * time.Minute
	settleAfter = 2 * time.Second // from a direct connection to the end of the relayed ones
)

type puncher struct {
	h   *Host
	svc *holepunch.Service

	mu    sync.Mutex // guards peers
	peers map[peer.ID]*punching
}

// punching is a peer that only relays reach.
type punching struct {
	next   time.Time
	fails  int
	active bool
}

// run starts the hole punching service as soon as this node has learnt its outside address, and retries until the host
// closes.
func (p *puncher) run() {
	select {
	case <-p.h.reach.seen:
	case <-p.h.ctx.Done():
		return
	}
	nh, ok1 := p.h.host.(natHost)
	ids, ok2 := p.h.host.(interface{ IDService() identify.IDService })
	if !ok1 || !ok2 {
		return
	}
	svc, err := holepunch.NewService(nh, ids.IDService(), func() []ma.Multiaddr { return p.addrs(nh) })
	if err != nil {
		p.h.cfg.Log.Warn("no hole punching", "why", err)
		return
	}
	defer svc.Close()
	p.svc = svc
	tick := time.NewTicker(punchEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.h.ctx.Done():
			return
		case now := <-tick.C:
			p.look(now)
		}
	}
}

// addrs is where others may dial to while we dial them: public addresses of this machine, ports that the router opened,
// and where peers see us.
func (p *puncher) addrs(h natHost) []ma.Multiaddr {
	all := slices.DeleteFunc(h.AllAddrs(), func(a ma.Multiaddr) bool { return relayed(a) || !manet.IsPublicAddr(a) })
	return ma.Unique(append(all, p.h.reach.outside()...))
}

// look starts an attempt for each peer that is due and forgets those that are direct or gone.
func (p *puncher) look(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	relayedOnly := p.h.relayedOnly()
	for id := range p.peers {
		if !slices.Contains(relayedOnly, id) {
			delete(p.peers, id)
		}
	}
	for _, id := range relayedOnly {
		s := p.peers[id]
		if s == nil {
			s = &punching{next: now.Add(punchFirst)}
			p.peers[id] = s
		}
		if s.active || now.Before(s.next) {
			continue
		}
		s.active = true
		p.h.wg.Go(func() { p.try(id, s) })
	}
}

func (p *puncher) try(id peer.ID, s *punching) {
	err := p.svc.DirectConnect(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	s.active = false
	s.fails++
	s.next = time.Now().Add(min(punchFirst<<min(s.fails, 16), punchMax))
	if err != nil {
		p.h.cfg.Log.Debug("no direct way to peer yet", "peer", id, "why", err)
	}
}

// relayedOnly lists the peers that a relay connects to us and nothing else. The side that was called begins, as DCUtR
// demands.
func (h *Host) relayedOnly() []peer.ID {
	var out []peer.ID
	for _, p := range h.host.Network().Peers() {
		conns := h.host.Network().ConnsToPeer(p)
		only := len(conns) > 0
		inbound := false
		for _, c := range conns {
			only = only && relayed(c.RemoteMultiaddr())
			inbound = inbound || c.Stat().Direction == network.DirInbound
		}
		if only && inbound {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, cmp.Compare[peer.ID])
	return out
}

// settle closes the relayed connections to a peer some time after it has a direct one too, if that one still stands. The
// direct one may be there first: who is called through a relay calls back at once.
func (h *Host) settle(id peer.ID) {
	if way, relays := h.ways(id); way == nil || len(relays) == 0 || !h.begin() {
		return
	}
	go func() {
		defer h.wg.Done()
		pause(h.ctx, settleAfter)
		way, relays := h.ways(id)
		if way == nil {
			return
		}
		for _, c := range relays {
			h.cfg.Log.Debug("direct way to peer found, leaving the relay", "peer", id, "over", way.RemoteMultiaddr())
			c.Close()
		}
	}()
}

// ways are a direct connection to a peer, if there is one, and the relayed ones.
func (h *Host) ways(id peer.ID) (direct network.Conn, relays []network.Conn) {
	for _, c := range h.host.Network().ConnsToPeer(id) {
		switch {
		case c.IsClosed():
		case relayed(c.RemoteMultiaddr()):
			relays = append(relays, c)
		default:
			direct = c
		}
	}
	return direct, relays
}
