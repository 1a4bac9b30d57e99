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

// searchEvery is how often at most the DHT is asked for relays.
const searchEvery = 30 * time.Second

// relaySearch remembers when the DHT was asked.
type relaySearch struct {
	mu sync.Mutex
	at time.Time
}

func (s *relaySearch) due(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.at.IsZero() && now.Sub(s.at) < searchEvery {
		return false
	}
	s.at = now
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
		if !h.needsRelay() {
			return
		}
		sent := h.sendRelays(ctx, out, n)
		if sent >= wantRelays || h.routing == nil || h.routing.Size() == 0 || !h.search.due(time.Now()) {
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

// needsRelay: a node that has not met the internet has no use for one.
func (h *Host) needsRelay() bool {
	if h.reach == nil { // still starting
		return false
	}
	h.reach.mu.Lock()
	defer h.reach.mu.Unlock()
	return h.reach.now == ReachPrivate
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
