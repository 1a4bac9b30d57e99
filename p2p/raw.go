package p2p

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/sys/unix"
)

// Connections for bulk come in at the port where libp2p listens, so they pass the same NAT and the same firewall.
// They ask for a "security protocol" of their own, behind which no handshake follows but a ticket. libp2p closes its
// side of such a connection; ours is a duplicate of the socket.

const (
	maxRaw     = 64 // connections that have not shown their ticket
	maxRawDial = 3  // addresses
)

var errTaken = errors.New("the connection is for bulk")

// rawName is the protocol that connections for bulk ask for. In a private swarm only members and the invited know it.
func (h *Host) rawName() protocol.ID {
	if h.cfg.Door == nil {
		return "/shoal/bulk/1"
	}
	m := hmac.New(sha256.New, h.cfg.Door.Secret())
	m.Write([]byte("shoal bulk 1"))
	return protocol.ID(fmt.Sprintf("/shoal/%x/1", m.Sum(nil)[:16]))
}

// rawDoor stands among the security protocols and takes connections for bulk.
type rawDoor struct {
	id protocol.ID
	h  *Host
}

func (h *Host) newRawDoor(id protocol.ID, _ crypto.PrivKey, _ []upgrader.StreamMuxer) (*rawDoor, error) {
	return &rawDoor{id, h}, nil
}

// ID implements sec.SecureTransport.
func (d *rawDoor) ID() protocol.ID { return d.id }

// SecureInbound implements sec.SecureTransport: it never makes a connection of libp2p.
func (d *rawDoor) SecureInbound(_ context.Context, c net.Conn, _ peer.ID) (sec.SecureConn, error) {
	select {
	case d.h.raws <- struct{}{}:
	default:
		return nil, errors.New("too many connections for bulk have not shown a ticket")
	}
	pace(c)
	own, err := duplicate(c)
	if err != nil || !d.h.begin() {
		<-d.h.raws
		return nil, errors.Join(errTaken, err)
	}
	go func() {
		defer d.h.wg.Done()
		d.h.takeRaw(own)
		<-d.h.raws
	}()
	return nil, errTaken
}

// SecureOutbound implements sec.SecureTransport.
func (d *rawDoor) SecureOutbound(context.Context, net.Conn, peer.ID) (sec.SecureConn, error) {
	return nil, errTaken
}

// takeRaw reads a connection's ticket.
func (h *Host) takeRaw(c net.Conn) {
	var ticket [ticketLen]byte
	c.SetDeadline(time.Now().Add(bulkTimeout))
	_, err := io.ReadFull(c, ticket[:])
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if c = h.meter.pace(c); err != nil || !h.bulk.arrive(ticket, c) {
		c.Close()
	}
}

// duplicate is another handle of a connection's socket.
func duplicate(c net.Conn) (net.Conn, error) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	if err := raw.Control(func(old uintptr) { fd, dupErr = unix.Dup(int(old)) }); err != nil || dupErr != nil {
		return nil, errors.Join(err, dupErr)
	}
	f := os.NewFile(uintptr(fd), "bulk")
	defer f.Close() // FileConn makes one more
	own, err := net.FileConn(f)
	if t, ok := own.(*net.TCPConn); ok {
		t.SetLinger(-1) // libp2p's sockets forget what was not sent
	}
	return own, err
}

// rawAddrs are the TCP addresses behind which the peer at the other end of a direct connection must be: that of the
// connection, if this node dialed it, and those that the peer announces with the same IP.
func (h *Host) rawAddrs(c network.Conn) (out []ma.Multiaddr) {
	far := c.RemoteMultiaddr()
	ip, err := manet.ToIP(far)
	if relayed(far) || err != nil {
		return nil
	}
	if c.Stat().Direction == network.DirOutbound && has(far, ma.P_TCP) {
		out = append(out, far)
	}
	for _, a := range h.host.Peerstore().Addrs(c.RemotePeer()) {
		other, err := manet.ToIP(a)
		if err == nil && other.Equal(ip) && has(a, ma.P_TCP) && !relayed(a) && len(out) < maxRawDial && !(len(out) > 0 && out[0].Equal(a)) {
			out = append(out, a)
		}
	}
	return out
}

// dialRaw connects to the first address that answers as rawDoor does.
func (h *Host) dialRaw(ctx context.Context, addrs []ma.Multiaddr) (net.Conn, error) {
	var errs []error
	for _, a := range addrs {
		c, err := h.dialRawAt(ctx, a)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (h *Host) dialRawAt(ctx context.Context, a ma.Multiaddr) (net.Conn, error) {
	c, err := (&manet.Dialer{Dialer: net.Dialer{Timeout: bulkTimeout / 2}}).DialContext(ctx, a)
	if err != nil {
		return nil, err
	}
	pace(c)
	c.SetDeadline(time.Now().Add(bulkTimeout))
	if err := choose(c, string(h.rawName())); err != nil {
		c.Close()
		return nil, fmt.Errorf("%s: %w", a, err)
	}
	return h.meter.pace(c), c.SetDeadline(time.Time{})
}

// choose speaks the dialer's side of multistream-select: both lines at once, and both back.
func choose(rw io.ReadWriter, name string) error {
	var out []byte
	for _, line := range []string{"/multistream/1.0.0\n", name + "\n"} {
		out = append(append(out, byte(len(line))), line...) // below 128 a varint is the byte
	}
	if _, err := rw.Write(out); err != nil {
		return err
	}
	back := make([]byte, len(out))
	for at := 0; at < len(back); {
		if _, err := io.ReadFull(rw, back[at:at+1]); err != nil {
			return err
		}
		n := int(back[at])
		if n != int(out[at]) {
			return errors.New("the node there takes no connections for bulk")
		}
		if _, err := io.ReadFull(rw, back[at+1:at+1+n]); err != nil {
			return err
		}
		at += 1 + n
	}
	if string(back) != string(out) {
		return errors.New("the node there takes no connections for bulk")
	}
	return nil
}
