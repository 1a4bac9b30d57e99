package p2p

import (
	"fmt"
	"net"
	"time"

	libp2p "github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Internet says how a node deals with what lies between it and the others: routers, NAT, firewalls. Its zero value is a
// node of the open internet that finds everything out by itself; Config.Internet nil is a node that only ever talks to
// addresses that it was told.
type Internet struct {
	Reach    Reach    // what the owner knows of being reachable; default ReachAuto: it is tested
	Announce []string // addresses to tell others in place of the public ones found here
	NoRelay  bool     // do not carry others' connections, also while reachable
	NoMap    bool     // do not ask the router for a port
	Small    bool     // low power: never a server of the DHT, one relay, no test dials for others
}

// Reach is whether others can open connections to this node.
type Reach string

const (
	ReachAuto    Reach = ""        // not known (yet): nobody was there to test it, as on a local network
	ReachPublic  Reach = "public"  // others can
	ReachPrivate Reach = "private" // only through a relay or by hole punching
)

// ParseReach reads the owner's word: auto, public or private.
func ParseReach(text string) (Reach, error) {
	switch r := Reach(text); r {
	case ReachPublic, ReachPrivate, ReachAuto:
		return r, nil
	case "auto":
		return ReachAuto, nil
	}
	return "", fmt.Errorf("reachability %q: want auto, public or private", text)
}

// What a node that carries others' connections gives at most. A volunteer's uplink is meant: enough for a small job to
// go on between two nodes that find no direct way, not enough to be worth stealing.
const (
	RelayData     = 256 << 20        // bytes per direction and circuit; then it is opened again
	RelayTime     = 30 * time.Minute // per circuit
	relayReserved = 64               // nodes that may be reached through this one
	relayCircuits = 8                // open at once per reserved node
	relayPerIP    = 8
	relayBuffer   = 64 << 10 // bytes per direction and circuit; libp2p's 2 KiB cost a third of the throughput

	wantRelays   = 2
	relayRetry   = 5 * time.Second // between looks for relays while one is missing
	relayBackoff = time.Minute     // before a relay that refused is asked again
)

// options are libp2p's for a node of the open internet.
func (h *Host) internetOptions() ([]libp2p.Option, error) {
	in := h.cfg.Internet
	if in == nil {
		return []libp2p.Option{libp2p.DisableRelay()}, nil
	}
	announce, err := parseAnnounce(in.Announce)
	if err != nil {
		return nil, err
	}
	relays := wantRelays
	if in.Small {
		relays = 1
	}
	opts := []libp2p.Option{
		libp2p.EnableRelay(),
		libp2p.AddrsFactory(h.advertised(announce)),
		libp2p.EnableAutoRelayWithPeerSource(h.relaySource,
			autorelay.WithNumRelays(relays), autorelay.WithMinCandidates(relays), autorelay.WithMaxCandidates(8),
			autorelay.WithBootDelay(0), autorelay.WithMinInterval(relayRetry), autorelay.WithBackoff(relayBackoff)),
	}
	if !in.NoMap {
		opts = append(opts, libp2p.NATPortMap())
	}
	if !in.Small && h.cfg.Door == nil { // its dialer of QUIC could not knock
		opts = append(opts, libp2p.EnableAutoNATv2())
	}
	if !in.Small && in.Reach != ReachPrivate { // a private node could not test others, and libp2p would leak the dialer for it
		opts = append(opts, libp2p.EnableNATService(), libp2p.AutoNATServiceRateLimit(60, 6, time.Minute))
	}
	if !in.NoRelay && !in.Small {
		opts = append(opts, libp2p.EnableRelayService(relay.WithResources(relayResources(h.cfg.Door != nil))))
	}
	switch in.Reach {
	case ReachPublic:
		opts = append(opts, libp2p.ForceReachabilityPublic())
	case ReachPrivate:
		opts = append(opts, libp2p.ForceReachabilityPrivate())
	}
	return opts, nil
}

// relayResources are those limits for libp2p. Members of a private swarm have been admitted by somebody, so many of them
// behind one router are a laboratory, not one guest who takes all places.
func relayResources(private bool) relay.Resources {
	r := relay.DefaultResources()
	r.Limit = &relay.RelayLimit{Duration: RelayTime, Data: RelayData}
	r.MaxReservations, r.MaxCircuits, r.MaxReservationsPerIP = relayReserved, relayCircuits, relayPerIP
	if private {
		r.MaxReservationsPerIP, r.MaxReservationsPerASN = relayReserved, relayReserved
	}
	r.BufferSize = relayBuffer
	return r
}

func parseAnnounce(addrs []string) ([]ma.Multiaddr, error) {
	var out []ma.Multiaddr
	for _, text := range addrs {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			return nil, fmt.Errorf("announce %q: %w; write it like /ip4/192.0.2.1/tcp/4481 or /dns4/example.org/tcp/4481", text, err)
		}
		out = append(out, a)
	}
	return out, nil
}

// advertised chooses which of this node's addresses others are told: not those of container bridges, and in place of
// the public ones found here those that the owner announces.
func (h *Host) advertised(announce []ma.Multiaddr) func([]ma.Multiaddr) []ma.Multiaddr {
	return func(found []ma.Multiaddr) []ma.Multiaddr {
		rejected := h.nets.rejected()
		var out []ma.Multiaddr
		for _, a := range found {
			ip, err := manet.ToIP(a)
			switch {
			case err == nil && !relayed(a) && rejected[ip.String()]:
			case len(announce) > 0 && (relayed(a) || manet.IsPublicAddr(a)):
			default:
				out = append(out, a)
			}
		}
		return append(out, announce...)
	}
}

// publicInterface reports whether an interface of this machine has an address of the open internet.
func publicInterface() bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if m, err := manet.FromNetAddr(a); err == nil && manet.IsPublicAddr(m) {
			return true
		}
	}
	return false
}
