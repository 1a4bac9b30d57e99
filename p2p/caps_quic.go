package p2p

import (
	"fmt"
	"net"
	"sync"

	libp2p "github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"
)

// quicSockets makes QUIC's sockets pass the meter. Nobody else closes the manager of them, so the host does.
func (h *Host) quicSockets() libp2p.Option {
	return libp2p.QUICReuse(func(reset quic.StatelessResetKey, token quic.TokenGeneratorKey) (*quicreuse.ConnManager, error) {
		cm, err := quicreuse.NewConnManager(reset, token, quicreuse.OverrideListenUDP(h.listenUDP))
		if err == nil {
			h.endQUIC = sync.OnceValue(cm.Close)
		}
		return cm, err
	})
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
