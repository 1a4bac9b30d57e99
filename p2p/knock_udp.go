package p2p

import (
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
)

// knockUDP is QUIC's socket in a private swarm. What may not pass arrives as an empty datagram, which quic-go skips: the
// batch that it reads has to keep its order.
type knockUDP struct {
	*pacedUDP
	knocks *knocks
	refuse func(from netip.AddrPort) // tells the log
}

// ReadBatch is how quic-go reads on Linux.
func (c *knockUDP) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	n, err := c.pacedUDP.ReadBatch(ms, flags)
	for i := range ms[:max(n, 0)] {
		m := &ms[i]
		m.N = c.pass(m.Buffers[0][:m.N], m.Addr)
	}
	return n, err
}

// ReadMsgUDP is how quic-go reads on other systems.
func (c *knockUDP) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	n, oobn, flags, addr, err = c.pacedUDP.ReadMsgUDP(b, oob)
	if err == nil {
		n = c.pass(b[:n], addr)
	}
	return n, oobn, flags, addr, err
}

// ReadFrom is how quic-go reads on Windows.
func (c *knockUDP) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := c.pacedUDP.ReadFrom(b)
	if err == nil {
		n = c.pass(b[:n], addr)
	}
	return n, addr, err
}

func (c *knockUDP) pass(packet []byte, from net.Addr) int {
	at, ok := udpAddr(from)
	now := time.Now()
	if ok && c.knocks.admit(packet, at, now) {
		return len(packet)
	}
	if ok && c.knocks.tell(packet, now) {
		c.refuse(at)
	}
	return 0
}

// WriteMsgUDP is how quic-go writes.
func (c *knockUDP) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (int, int, error) {
	c.knock(b, addr)
	return c.pacedUDP.WriteMsgUDP(b, oob, addr)
}

// WriteTo is how quic-go writes on Windows.
func (c *knockUDP) WriteTo(b []byte, addr net.Addr) (int, error) {
	c.knock(b, addr)
	return c.pacedUDP.WriteTo(b, addr)
}

// knock precedes a packet. A knock that is lost is sent again with the next Initial.
func (c *knockUDP) knock(packet []byte, to net.Addr) {
	if at, ok := udpAddr(to); ok {
		if k := c.knocks.before(packet, at, time.Now()); k != nil {
			c.pacedUDP.WriteTo(k, to)
		}
	}
}

func udpAddr(a net.Addr) (netip.AddrPort, bool) {
	u, ok := a.(*net.UDPAddr)
	if !ok || u == nil {
		return netip.AddrPort{}, false
	}
	return unmapped(u.AddrPort()), true
}
