package p2p

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"

	libp2p "github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"
)

// sockets are the managers of QUIC's sockets. Nobody else closes them, so the host does.
type sockets struct {
	mu  sync.Mutex // guards all
	all []*quicreuse.ConnManager
}

func (s *sockets) add(cm *quicreuse.ConnManager) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, cm)
}

func (s *sockets) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, cm := range s.all {
		errs = append(errs, cm.Close())
	}
	s.all = nil
	return errors.Join(errs...)
}

// quicSockets makes QUIC's sockets pass the meter.
func (h *Host) quicSockets() libp2p.Option { return libp2p.QUICReuse(h.newSockets) }

func (h *Host) newSockets(reset quic.StatelessResetKey, token quic.TokenGeneratorKey) (*quicreuse.ConnManager, error) {
	cm, err := quicreuse.NewConnManager(reset, token, quicreuse.OverrideListenUDP(h.listenUDP))
	if err == nil {
		h.sockets.add(cm)
	}
	return cm, err
}

// probeSockets are those of AutoNAT's dialer, which tests from ports of its own whether another node can be reached. libp2p
// makes them without our options; in a private swarm they have to knock.
func (h *Host) probeSockets() (*quicreuse.ConnManager, error) {
	var reset quic.StatelessResetKey
	var token quic.TokenGeneratorKey
	rand.Read(reset[:]) // never fails
	rand.Read(token[:])
	return h.newSockets(reset, token)
}

func (h *Host) listenUDP(network string, addr *net.UDPAddr) (net.PacketConn, error) {
	c, err := net.ListenUDP(network, addr)
	if err != nil {
		return nil, fmt.Errorf("listen on UDP %s: %w", addr, err)
	}
	paced := &pacedUDP{UDPConn: c, batch: ipv4.NewPacketConn(c), meter: h.meter, done: make(chan struct{})}
	if h.cfg.Door != nil {
		return &knockUDP{paced, newKnocks(h.cfg.Door.Secret()), h.unknocked}, nil
	}
	return paced, nil
}

// pacedUDP is QUIC's socket under a meter. It keeps the methods by which quic-go sends and receives many packets at
// once.
type pacedUDP struct {
	*net.UDPConn
	batch *ipv4.PacketConn
	meter *meter
	done  chan struct{}
}

// ReadBatch is how quic-go reads.
func (c *pacedUDP) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	n, err := c.batch.ReadBatch(ms, flags)
	bytes := 0
	for _, m := range ms[:max(n, 0)] {
		bytes += m.N
	}
	c.meter.pass(&c.meter.down, bytes, c.done)
	return n, err
}

// WriteMsgUDP is how quic-go writes.
func (c *pacedUDP) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (int, int, error) {
	c.meter.pass(&c.meter.up, len(b), c.done)
	return c.UDPConn.WriteMsgUDP(b, oob, addr)
}

// SetReadBuffer keeps what waits in the kernel to a quarter of a second's worth while a cap is in force.
func (c *pacedUDP) SetReadBuffer(n int) error {
	if rate := c.meter.down.rate.Load(); rate != 0 {
		n = min(n, capBuffer(rate))
	}
	return c.UDPConn.SetReadBuffer(n)
}
