package p2p

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Reachability is what this node knows of its place on the internet, for a person.
type Reachability struct {
	Reach    Reach
	Forced   bool            // the owner said so
	Tested   bool            // others tried, and Reach is what came of it
	NAT      NAT             // as the peers' observations tell
	Seen     []string        // addresses that peers see this node at, IP:port
	Relays   []record.PeerID // that keep a place for this node
	Carries  bool            // this node is a relay for others
	Server   bool            // of the DHT; else a client
	Table    int             // nodes in its DHT routing table
	Rejected []string        // interfaces whose addresses are not told to others
}

// reach follows what libp2p's tests find out. One goroutine runs it.
type reach struct {
	h      *Host
	public bool // an interface has an address of the internet
	tell   event.Emitter
	moved  chan struct{} // one pending signal

	mu     sync.Mutex // guards the rest
	now    Reach
	tested bool                 // now is AutoNAT's verdict
	own    network.Reachability // a guess of ours that is on its way back to us; unknown: none
	inet   bool                 // a peer on the internet was met
	nat    natGuess
	relays []record.PeerID
	seen   chan struct{} // closed when an outside address is known for the first time
}

func newReach(h *Host) *reach {
	return &reach{h: h, public: publicInterface(), now: h.cfg.Internet.Reach, seen: make(chan struct{}), moved: make(chan struct{}, 1)}
}

// start subscribes before the first connection, so that nothing is missed.
func (r *reach) start() error {
	bus := r.h.host.EventBus()
	var err error
	if r.tell, err = bus.Emitter(new(event.EvtLocalReachabilityChanged), eventbus.Stateful); err != nil {
		return err
	}
	sub, err := bus.Subscribe([]any{
		new(event.EvtLocalReachabilityChanged), new(event.EvtPeerIdentificationCompleted), new(event.EvtAutoRelayAddrsUpdated),
		new(event.EvtLocalAddressesUpdated),
	}, eventbus.BufSize(256), eventbus.Name("shoal"))
	if err != nil {
		r.tell.Close()
		return err
	}
	r.mu.Lock()
	r.guess()
	r.mu.Unlock()
	r.h.wg.Go(func() {
		defer r.tell.Close()
		defer sub.Close()
		for {
			select {
			case <-r.h.ctx.Done():
				return
			case e := <-sub.Out():
				r.take(e)
			}
		}
	})
	return nil
}

func (r *reach) take(e any) {
	switch e := e.(type) {
	case event.EvtLocalReachabilityChanged:
		r.judged(e.Reachability)
	case event.EvtPeerIdentificationCompleted:
		r.met(e)
	case event.EvtAutoRelayAddrsUpdated:
		r.relayed(e.RelayAddrs)
	case event.EvtLocalAddressesUpdated:
		select {
		case r.moved <- struct{}{}:
		default: // one is pending
		}
	}
}

// AddrsChanged gets a value some time after this node's addresses changed; never without Config.Internet. It has one
// reader.
func (h *Host) AddrsChanged() <-chan struct{} {
	if h.reach == nil {
		return nil
	}
	return h.reach.moved
}

// judged takes a verdict of AutoNAT's, or our own guess.
func (r *reach) judged(v network.Reachability) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v == r.own && v != network.ReachabilityUnknown {
		r.own = network.ReachabilityUnknown
		return
	}
	r.tested = v != network.ReachabilityUnknown
	switch v {
	case network.ReachabilityPublic:
		r.now = ReachPublic
	case network.ReachabilityPrivate:
		r.now = ReachPrivate
	default:
		r.now = ReachAuto
		r.guess()
	}
}

// guess calls this node private until a test shows otherwise, when it has met the internet through an address that is not
// of the internet: a NAT is between. AutoNAT needs a quarter of a minute to say so, and until then the node would offer
// itself to the DHT and look for no relay. In a private swarm a machine with an address of the internet is public until a
// test shows otherwise: of its few members perhaps nobody can test another. The caller holds mu.
func (r *reach) guess() {
	in := r.h.cfg.Internet
	if r.now != ReachAuto || in.Reach != ReachAuto {
		return
	}
	switch {
	case r.public && r.h.cfg.Door != nil && !in.Small:
		r.now, r.own = ReachPublic, network.ReachabilityPublic
	case !r.public && r.inet:
		r.now, r.own = ReachPrivate, network.ReachabilityPrivate
	default:
		return
	}
	own := r.own
	r.h.wg.Go(func() { r.tell.Emit(event.EvtLocalReachabilityChanged{Reachability: own}) })
}

// met learns from a peer on the internet where it sees this node.
func (r *reach) met(e event.EvtPeerIdentificationCompleted) {
	remote := e.Conn.RemoteMultiaddr()
	if relayed(remote) || !manet.IsPublicAddr(remote) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inet = true
	r.guess()
	_, local, ok1 := endpoint(e.Conn.LocalMultiaddr())
	proto, at, ok2 := endpoint(e.ObservedAddr)
	if !ok1 || !ok2 || !manet.IsPublicAddr(e.ObservedAddr) || !r.h.listens(proto, local.Port()) {
		return
	}
	ip, err := manet.ToIP(remote)
	if err != nil {
		return
	}
	r.nat.add(proto, local.Port(), ip.String(), at)
	select {
	case <-r.seen:
	default:
		close(r.seen)
	}
}

// endpoint reads the IP and port of a TCP or QUIC address.
func endpoint(a ma.Multiaddr) (proto string, at netip.AddrPort, ok bool) {
	if len(a) == 0 || relayed(a) {
		return "", at, false
	}
	na, err := manet.ToNetAddr(a.Decapsulate(quicPart))
	switch na := na.(type) {
	case *net.TCPAddr:
		return "tcp", unmapped(na.AddrPort()), err == nil
	case *net.UDPAddr:
		return "udp", unmapped(na.AddrPort()), err == nil
	}
	return "", at, false
}

var quicPart = ma.StringCast("/quic-v1")

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// listens tells that this node accepts connections on a local port.
func (h *Host) listens(proto string, port uint16) bool {
	for _, a := range h.host.Network().ListenAddresses() {
		if p, at, ok := endpoint(a); ok && p == proto && at.Port() == port {
			return true
		}
	}
	return false
}

// relayed takes the addresses at which relays keep a place for this node.
func (r *reach) relayed(addrs []ma.Multiaddr) {
	var ids []record.PeerID
	for _, a := range addrs {
		if id, err := a.ValueForProtocol(ma.P_P2P); err == nil && !slices.Contains(ids, record.PeerID(id)) {
			ids = append(ids, record.PeerID(id))
		}
	}
	slices.SortFunc(ids, cmp.Compare[record.PeerID])
	r.mu.Lock()
	defer r.mu.Unlock()
	r.relays = ids
}

// outside lists the addresses at which a hole may be punched: where peers on the internet see this node.
func (r *reach) outside() []ma.Multiaddr {
	r.mu.Lock()
	tcp, udp := r.nat.outside()
	r.mu.Unlock()
	var out []ma.Multiaddr
	for _, a := range tcp {
		if m, err := manet.FromNetAddr(net.TCPAddrFromAddrPort(a)); err == nil {
			out = append(out, m)
		}
	}
	for _, a := range udp {
		if m, err := manet.FromNetAddr(net.UDPAddrFromAddrPort(a)); err == nil {
			out = append(out, m.Encapsulate(quicPart))
		}
	}
	return out
}

// Reachability says how others reach this node; ok is false for a node without Config.Internet.
func (h *Host) Reachability() (now Reachability, ok bool) {
	if h.reach == nil {
		return Reachability{}, false
	}
	r := h.reach
	r.mu.Lock()
	now = Reachability{Reach: r.now, Forced: h.cfg.Internet.Reach != ReachAuto, Tested: r.tested, Relays: slices.Clone(r.relays), NAT: r.nat.kind(localIPs())}
	tcp, udp := r.nat.outside()
	r.mu.Unlock()
	for _, a := range tcp {
		now.Seen = append(now.Seen, a.String()+"/tcp")
	}
	for _, a := range udp {
		now.Seen = append(now.Seen, a.String()+"/udp")
	}
	now.Rejected = h.nets.names()
	now.Carries = slices.Contains(h.host.Mux().Protocols(), proto.ProtoIDv2Hop)
	now.Server, now.Table = h.routing.Serves(), h.routing.Size()
	return now, true
}

func localIPs() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return out
	}
	for _, a := range addrs {
		if p, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(p.IP); ok {
				out[ip.Unmap()] = true
			}
		}
	}
	return out
}

// natHost is the libp2p host with the parts that hole punching needs.
type natHost interface {
	host.Host
	AllAddrs() []ma.Multiaddr
}
