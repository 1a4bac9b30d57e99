package p2p

import (
	"cmp"
	"net/netip"
	"slices"
)

// NAT is what a router between this node and the internet does to its connections.
type NAT string

const (
	NATUnknown   NAT = ""          // fewer than two public peers told where they see us
	NATNone      NAT = "none"      // they see an address of this machine
	NATCone      NAT = "cone"      // they see one outside address and port: hole punching works
	NATSymmetric NAT = "symmetric" // each sees another port: hole punching does not work, a relay does
)

// natGuess collects where peers on the internet see this node and tells from it what kind of NAT lies between. It is plain
// data: its owner guards it. What peers say is not verified: it is believed only where two of them agree, and then only
// shown to a person and offered for hole punching.
type natGuess struct {
	seen map[socket][]sight // per transport and local port, newest last
}

// socket is one local socket.
type socket struct {
	proto string // tcp, udp
	port  uint16
}

// sight is one peer's word.
type sight struct {
	by   string // observer: its IP address, so that one machine has one voice
	addr netip.AddrPort
}

const (
	maxSights  = 16 // per socket
	maxSockets = 8
)

func (g *natGuess) add(proto string, port uint16, by string, at netip.AddrPort) {
	if g.seen == nil {
		g.seen = map[socket][]sight{}
	}
	k := socket{proto, port}
	if _, ok := g.seen[k]; !ok && len(g.seen) >= maxSockets {
		return
	}
	s := slices.DeleteFunc(g.seen[k], func(s sight) bool { return s.by == by })
	s = append(s, sight{by, at})
	g.seen[k] = s[max(0, len(s)-maxSights):]
}

// kind judges by the socket that most peers spoke of. local are this machine's addresses.
func (g *natGuess) kind(local map[netip.Addr]bool) NAT {
	var best []sight
	for _, k := range g.sockets() {
		if s := g.seen[k]; len(s) > len(best) {
			best = s
		}
	}
	if len(best) < 2 {
		return NATUnknown
	}
	count := map[netip.AddrPort]int{}
	for _, s := range best {
		if local[s.addr.Addr()] {
			return NATNone
		}
		count[s.addr]++
	}
	for _, n := range count {
		if n >= 2 && 2*n > len(best) {
			return NATCone
		}
	}
	return NATSymmetric
}

// outside lists the addresses as seen, at most one per socket: the one most peers agree on.
func (g *natGuess) outside() (tcp, udp []netip.AddrPort) {
	for _, k := range g.sockets() {
		count := map[netip.AddrPort]int{}
		var best netip.AddrPort
		for _, s := range g.seen[k] {
			count[s.addr]++
			if c := count[s.addr]; c > count[best] || c == count[best] && s.addr.Compare(best) < 0 {
				best = s.addr
			}
		}
		if k.proto == "tcp" {
			tcp = append(tcp, best)
		} else {
			udp = append(udp, best)
		}
	}
	return tcp, udp
}

func (g *natGuess) sockets() []socket {
	var keys []socket
	for k := range g.seen {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b socket) int { return cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.port, b.port)) })
	return keys
}
