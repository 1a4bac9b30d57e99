package p2p

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Routing is this node's part in the swarm's Kademlia DHT, under /shoal/<swarm>/kad/1.0.0. It finds nodes by what they
// provide: the swarm itself, a job, a relay. It holds no values and no record per block; those who have a job's blocks
// are its members.
//
// A node that others cannot reach is a client: it asks and is told of, and is in nobody's routing table. Reachability
// is tested before a node offers itself as a server; a node without an address of the internet that has not met the
// internet serves at once, for swarms on a local network.
type Routing struct {
	h   *Host
	dht *dht.IpfsDHT
}

const (
	provideTime = 30 * time.Second // for telling some twenty nodes
	findTime    = 20 * time.Second
	maxFound    = 64 // nodes taken from one search
)

// RendezvousKey is what nodes provide that offer what in a swarm: "swarm" for being there, "relay" for carrying.
func RendezvousKey(name, what string) cid.Cid {
	b, err := record.Encode([]string{"shoal/rendezvous", name, what})
	if err != nil {
		panic("p2p: " + err.Error())
	}
	return record.CID(b)
}

func newRouting(h *Host) (*Routing, error) {
	d, err := dht.New(h.host,
		dht.ProtocolPrefix(protocol.ID("/shoal/"+h.cfg.Swarm)),
		dht.Mode(h.dhtMode()),
		dht.DisableValues(),
		dht.RoutingTableFilter(func(_ any, p peer.ID) bool { return h.routable(p) }),
		dht.AddressFilter(dialableAnywhere),
		dht.BootstrapPeersFunc(h.connectedInfos),
	)
	if err != nil {
		return nil, fmt.Errorf("start the DHT: %w", err)
	}
	return &Routing{h: h, dht: d}, nil
}

func (h *Host) dhtMode() dht.ModeOpt {
	in := h.cfg.Internet
	switch {
	case in.Small || in.Reach == ReachPrivate:
		return dht.ModeClient
	case in.Reach == ReachPublic:
		return dht.ModeServer
	case publicInterface():
		return dht.ModeAuto // a client until AutoNAT says public
	}
	return dht.ModeAutoServer // see reach.guess
}

// routable keeps nodes out of the routing table that came through the internet but tell no address of it: they are
// behind a NAT and have not noticed yet.
func (h *Host) routable(p peer.ID) bool {
	conns := h.host.Network().ConnsToPeer(p)
	for _, c := range conns {
		if a := c.RemoteMultiaddr(); !relayed(a) && !manet.IsPublicAddr(a) {
			return true // of this local network
		}
	}
	for _, a := range h.host.Peerstore().Addrs(p) {
		if !relayed(a) && manet.IsPublicAddr(a) {
			return true
		}
	}
	return false
}

// dialableAnywhere drops private addresses of nodes that have others: dialing them from elsewhere reaches strangers.
func dialableAnywhere(addrs []ma.Multiaddr) []ma.Multiaddr {
	var anywhere []ma.Multiaddr
	for _, a := range addrs {
		if relayed(a) || manet.IsPublicAddr(a) {
			anywhere = append(anywhere, a)
		}
	}
	if len(anywhere) > 0 {
		return anywhere
	}
	return addrs
}

// connectedInfos are the nodes from which an empty routing table is filled again.
func (h *Host) connectedInfos() []peer.AddrInfo {
	var out []peer.AddrInfo
	for _, p := range h.host.Network().Peers() {
		out = append(out, h.host.Peerstore().PeerInfo(p))
	}
	return out
}

// ErrNoTable says that no node of the DHT is known yet, so that it can neither be told nor asked.
var ErrNoTable = errors.New("no node of the DHT is known yet")

// Provide tells the DHT that this node offers key. It fails while nobody is there to tell; records last two days, so
// whoever still offers repeats it within one.
func (r *Routing) Provide(ctx context.Context, key cid.Cid) error {
	if r.Size() == 0 {
		return ErrNoTable
	}
	ctx, cancel := context.WithTimeout(ctx, provideTime)
	defer cancel()
	if err := r.dht.Provide(ctx, key, true); err != nil {
		return fmt.Errorf("tell the DHT of %s: %w", key, err)
	}
	return nil
}

// Find asks the DHT who offers key, and calls found with the addresses, each ending in /p2p/<id>, of one node at a time.
func (r *Routing) Find(ctx context.Context, key cid.Cid, found func(addrs []string)) error {
	if r.Size() == 0 {
		return ErrNoTable
	}
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	for info := range r.dht.FindProvidersAsync(ctx, key, maxFound) {
		if info.ID == r.h.host.ID() || len(info.Addrs) == 0 {
			continue
		}
		var addrs []string
		for _, a := range info.Addrs[:min(len(info.Addrs), 16)] {
			addrs = append(addrs, withID(a, info.ID))
		}
		found(addrs)
	}
	return nil
}

// Refresh fills the routing table from those who are connected, without waiting.
func (r *Routing) Refresh() { r.dht.RefreshRoutingTable() }

// Size is how many nodes the routing table holds.
func (r *Routing) Size() int { return r.dht.RoutingTable().Size() }

// Serves tells that others may ask this node.
func (r *Routing) Serves() bool { return r.dht.Mode() == dht.ModeServer }
