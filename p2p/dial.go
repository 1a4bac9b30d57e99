package p2p

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	swarmnet "github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

const (
	maxAddr     = 512 // bytes of one multiaddr in text
	quicDelay   = 250 * time.Millisecond
	relayDelay  = 500 * time.Millisecond
	addrLife    = 15 * time.Minute // how long an address heard of is kept for dialing
	maxDialText = 300              // bytes of a dial error's text
)

// Connect connects to the peer that addr, a multiaddr ending in /p2p/<id>, names. Connected already: returns at once.
func (h *Host) Connect(ctx context.Context, addr string) error {
	id, err := h.Learn(addr)
	if err != nil {
		return err
	}
	return h.Dial(ctx, id)
}

// Learn remembers addr for later dials to the peer it names, for a quarter of an hour.
func (h *Host) Learn(addr string) (record.PeerID, error) {
	info, err := parseAddr(addr)
	if err != nil {
		return "", err
	}
	if info.ID == h.host.ID() {
		return "", fmt.Errorf("address %s is this node's own identity", addr)
	}
	id := record.PeerID(info.ID.String())
	h.mu.Lock()
	h.gone.back(id)
	h.mu.Unlock()
	h.host.Peerstore().AddAddrs(info.ID, info.Addrs, addrLife)
	return id, nil
}

// Dial connects to a peer some of whose addresses are known.
func (h *Host) Dial(ctx context.Context, id record.PeerID) error {
	p, err := decodeID(id)
	if err != nil {
		return err
	}
	if h.isConnected(id) {
		return nil
	}
	if s, ok := h.host.Network().(*swarmnet.Swarm); ok {
		s.Backoff().Clear(p) // libp2p's own backoff would refuse our retries for up to minutes
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := h.host.Connect(throughRelays(ctx), peer.AddrInfo{ID: p}); err != nil {
		return fmt.Errorf("connect to %s: %w", id, plainDialError(err))
	}
	return nil
}

// throughRelays lets a stream go over a relayed connection where no direct one is; libp2p calls those limited, because
// relays end them after some time or bytes. Streams prefer direct connections by themselves.
func throughRelays(ctx context.Context) context.Context {
	return network.WithAllowLimitedConn(ctx, "no direct way")
}

// Known lists addresses to reach id by, each ending in /p2p/<id>; at most 16.
func (h *Host) Known(id record.PeerID) []string {
	p, err := decodeID(id)
	if err != nil {
		return nil
	}
	addrs := h.host.Peerstore().Addrs(p)
	out := make([]string, 0, min(len(addrs), 16))
	for _, a := range addrs[:min(len(addrs), 16)] {
		out = append(out, withID(a, p))
	}
	return out
}

// Useful keeps of addrs those that the peer to can use. To a peer on the internet that is not an address of some local
// network: dialed from there, it leads to a stranger.
func (h *Host) Useful(to record.PeerID, addrs []string) []string {
	p, err := decodeID(to)
	if err != nil || !h.onInternet(p) {
		return addrs
	}
	var out []string
	for _, text := range addrs {
		if a, err := ma.NewMultiaddr(text); err == nil && (relayed(a) || !manet.IsPrivateAddr(a) && !manet.IsIPLoopback(a)) {
			out = append(out, text)
		}
	}
	return out
}

// Forget closes all connections to id.
func (h *Host) Forget(id record.PeerID) error {
	p, err := decodeID(id)
	if err != nil {
		return err
	}
	return h.host.Network().ClosePeer(p)
}

// SplitAddr checks a multiaddr that ends in /p2p/<id> and returns whose it is.
func SplitAddr(addr string) (record.PeerID, error) {
	info, err := parseAddr(addr)
	if err != nil {
		return "", err
	}
	return record.PeerID(info.ID.String()), nil
}

func parseAddr(addr string) (*peer.AddrInfo, error) {
	if len(addr) > maxAddr {
		return nil, fmt.Errorf("address of %d characters, limit %d", len(addr), maxAddr)
	}
	a, err := ma.NewMultiaddr(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w; write it like /ip4/192.0.2.1/tcp/4481/p2p/12D3KooW…", addr, err)
	}
	info, err := peer.AddrInfoFromP2pAddr(a)
	if err != nil {
		return nil, fmt.Errorf("address %q does not end in /p2p/<peer id>: run \"shoal status\" on that node to see its addresses", addr)
	}
	return info, nil
}

func decodeID(id record.PeerID) (peer.ID, error) {
	if _, err := record.PublicKey(id); err != nil {
		return "", err
	}
	return peer.Decode(string(id))
}

func withID(a ma.Multiaddr, id peer.ID) string { return a.String() + "/p2p/" + id.String() }

// plainDialError makes one line of libp2p's list of what failed at which address.
func plainDialError(err error) error {
	var mismatch sec.ErrPeerIDMismatch
	if errors.As(err, &mismatch) {
		return fmt.Errorf("the node there is %s: its identity changed or the address is another node's", mismatch.Actual)
	}
	var de *swarmnet.DialError
	if !errors.As(err, &de) || len(de.DialErrors) == 0 {
		return err
	}
	text := strings.ReplaceAll(strings.Join(causes(de.DialErrors), "; "), "\n", " ")
	if len(text) > maxDialText {
		text = strings.ToValidUTF8(text[:maxDialText], "") + "…"
	}
	return dialError{text: text, err: err}
}

// causes says of each address why it failed. That a loopback address, which peers tell too, leads back to this node is not
// worth a word beside others.
func causes(errs []swarmnet.TransportError) []string {
	var out, own []string
	for _, te := range errs {
		why := te.Cause
		if op, ok := why.(*net.OpError); ok { // itself, not what is wrapped: its context counts
			why = op.Err // without the addresses once more
		}
		if text := fmt.Sprintf("%s: %v", te.Address, why); errors.Is(te.Cause, swarmnet.ErrDialToSelf) {
			own = append(own, text)
		} else {
			out = append(out, text)
		}
	}
	if len(out) == 0 {
		return own
	}
	return out
}

// dialError is err with a readable text.
type dialError struct {
	text string
	err  error
}

func (e dialError) Error() string { return e.text }
func (e dialError) Unwrap() error { return e.err }

// rankDials orders a dial: TCP at once on every address, QUIC when TCP did not answer, relays last.
func rankDials(addrs []ma.Multiaddr) []network.AddrDelay {
	out := make([]network.AddrDelay, 0, len(addrs))
	var tcp, quic bool
	for _, a := range addrs {
		tcp = tcp || !relayed(a) && has(a, ma.P_TCP)
		quic = quic || !relayed(a) && has(a, ma.P_QUIC_V1)
	}
	for _, a := range addrs {
		d := time.Duration(0)
		switch {
		case relayed(a) && (tcp || quic):
			d = relayDelay
		case !relayed(a) && tcp && !has(a, ma.P_TCP):
			d = quicDelay
		}
		out = append(out, network.AddrDelay{Addr: a, Delay: d})
	}
	return out
}

func relayed(a ma.Multiaddr) bool { return has(a, ma.P_CIRCUIT) }

func has(a ma.Multiaddr, proto int) bool {
	_, err := a.ValueForProtocol(proto)
	return err == nil
}

// gater asks the swarm's gate at the points where libp2p knows who a peer is. At a door the exchange of credentials
// decides before; there it is asked once more when the connection is complete, because a revocation may have come.
type gater struct {
	gate   swarm.Gate
	door   bool
	refuse func(id record.PeerID, why error) // tells the log
}

func (g *gater) admit(p peer.ID) bool {
	id := record.PeerID(p.String())
	err := g.gate.Admit(id)
	if err != nil {
		g.refuse(id, err)
	}
	return err == nil
}

func (g *gater) InterceptPeerDial(p peer.ID) bool             { return g.admit(p) }
func (g *gater) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }
func (g *gater) InterceptAccept(network.ConnMultiaddrs) bool  { return true }

func (g *gater) InterceptSecured(d network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return d == network.DirOutbound || g.door || g.admit(p) // outbound was asked before the dial
}

func (g *gater) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	return !g.door || g.admit(c.RemotePeer()), 0
}
