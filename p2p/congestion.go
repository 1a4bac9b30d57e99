package p2p

import (
	"context"
	"net"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// paced is a security transport that first asks the kernel for BBR congestion control on the TCP connection that it is
// given, in either direction. It is the one place where libp2p shows us the socket of each connection. Measured at 100
// Mbit/s, 50 ms and 0.5 % loss: BBR fills the link, Reno a twentieth of it. Connections within a local network keep the
// kernel's choice, and so does everything where the kernel has no BBR.
type paced struct{ sec.SecureTransport }

// newSecurity is how libp2p makes a security transport.
type newSecurity[T sec.SecureTransport] func(protocol.ID, crypto.PrivKey, []upgrader.StreamMuxer) (T, error)

func pacedBy[T sec.SecureTransport](inner newSecurity[T]) func(protocol.ID, crypto.PrivKey, []upgrader.StreamMuxer) (*paced, error) {
	return func(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (*paced, error) {
		t, err := inner(id, key, muxers)
		return &paced{t}, err
	}
}

func (p *paced) SecureInbound(ctx context.Context, c net.Conn, id peer.ID) (sec.SecureConn, error) {
	pace(c)
	return p.SecureTransport.SecureInbound(ctx, c, id)
}

func (p *paced) SecureOutbound(ctx context.Context, c net.Conn, id peer.ID) (sec.SecureConn, error) {
	pace(c)
	return p.SecureTransport.SecureOutbound(ctx, c, id)
}

// pace does its best; that it cannot is no error.
func pace(c net.Conn) {
	far, ok := c.(interface{ RemoteMultiaddr() ma.Multiaddr })
	if !ok || !manet.IsPublicAddr(far.RemoteMultiaddr()) {
		return
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) { setCongestion(fd, "bbr") })
}

const (
	distant = 5 * time.Millisecond // round trip beyond which a connection for bulk is no longer treated as one within a house
	unsent  = 128 << 10            // bytes that may wait in such a connection's socket: what is more urgent need not wait for more
)

// fit adapts a connection for bulk to the line that it has turned out to have, and returns the round trip; 0: unknown. Networks
// with private addresses may be as wide as the internet.
func fit(c net.Conn) (rtt time.Duration) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) {
		if rtt = roundTrip(fd); rtt >= distant {
			setCongestion(fd, "bbr") // best effort, like what follows
			keepShort(fd, unsent)
		}
	})
	return rtt
}
