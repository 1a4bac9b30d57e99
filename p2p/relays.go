package p2p

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	manet "github.com/multiformats/go-multiaddr/net"
)

// How often at most the DHT is asked for relays: after searchFirst, then twice as long each time.
const (
	searchFirst = 15 * time.Second
	searchMax   = 10 * time.Minute
)

// relaySearch remembers when the DHT was asked.
type relaySearch struct {
	mu   sync.Mutex // guards the rest
	next time.Time
	wait time.Duration
}

// due reports whether to ask now. have is how many relays keep a place for this node: with none, it asks more often.
func (s *relaySearch) due(now time.Time, have int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have == 0 {
		s.wait = min(s.wait, searchFirst*4)
	}
	if now.Before(s.next) {
		return false
	}
	s.wait = min(max(2*s.wait, searchFirst), searchMax)
	s.next = now.Add(s.wait)
	return true
}

// relaySource is where libp2p's AutoRelay gets relays from: connected nodes that carry, then the DHT. It is asked only
// while this node lacks one.
func (h *Host) relaySource(ctx context.Context, n int) <-chan peer.AddrInfo {
	out := make(chan peer.AddrInfo, n)
	if !h.begin() {
		close(out)
		return out
	}
	go func() {
		defer h.wg.Done()
		defer close(out)
		select {
		case <-h.ready: // AutoRelay may start before New returns
		case <-ctx.Done():
			return
		case <-h.ctx.Done():
			return
		}
		have, need := h.needsRelay()
		if !need {
			return
		}
		sent := h.sendRelays(ctx, out, n)
		if sent >= wantRelays || h.routing.Size() == 0 || !h.search.due(time.Now(), have) {
			return
		}
		h.routing.Find(ctx, RendezvousKey(h.cfg.Swarm, "relay"), func(addrs []string) {
			if info, err := parseAddr(addrs[0]); err == nil && sent < n {
				for _, a := range addrs[1:] {
					if more, err := parseAddr(a); err == nil {
						info.Addrs = append(info.Addrs, more.Addrs...)
					}
				}
				sent++
				select {
				case out <- *info:
				case <-ctx.Done():
				}
			}
		})
	}()
	return out
}

// needsRelay says how many relays this node has and whether it lacks some; one that has not met the internet has no use
// for any.
func (h *Host) needsRelay() (have int, need bool) {
	h.reach.mu.Lock()
	defer h.reach.mu.Unlock()
	have = len(h.reach.relays)
	return have, h.reach.now == ReachPrivate && have < wantRelays
}

// sendRelays offers those connected nodes of the internet that carry others.
func (h *Host) sendRelays(ctx context.Context, out chan<- peer.AddrInfo, n int) (sent int) {
	for _, p := range h.host.Network().Peers() {
		if sent == n || h.host.Network().Connectedness(p) != network.Connected || !h.onInternet(p) {
			continue
		}
		if ok, err := h.host.Peerstore().SupportsProtocols(p, proto.ProtoIDv2Hop); err != nil || len(ok) == 0 {
			continue
		}
		select {
		case out <- h.host.Peerstore().PeerInfo(p):
			sent++
		case <-ctx.Done():
			return sent
		}
	}
	return sent
}

// onInternet tells that a connection to p goes to an address of the internet.
func (h *Host) onInternet(p peer.ID) bool {
	for _, c := range h.host.Network().ConnsToPeer(p) {
		if a := c.RemoteMultiaddr(); !relayed(a) && manet.IsPublicAddr(a) {
			return true
		}
	}
	return false
}
