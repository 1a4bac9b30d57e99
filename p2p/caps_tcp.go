package p2p

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sys/unix"
)

// metered is a security transport whose connections pass the host's meter: what it is given is the socket, so it sees
// every byte of a TCP connection but the first few of negotiation.
type metered struct {
	sec.SecureTransport
	meter *meter
}

func (t metered) SecureInbound(ctx context.Context, c net.Conn, p peer.ID) (sec.SecureConn, error) {
	return batch(t.meter, c, func(c net.Conn) (sec.SecureConn, error) { return t.SecureTransport.SecureInbound(ctx, c, p) })
}

func (t metered) SecureOutbound(ctx context.Context, c net.Conn, p peer.ID) (sec.SecureConn, error) {
	return batch(t.meter, c, func(c net.Conn) (sec.SecureConn, error) { return t.SecureTransport.SecureOutbound(ctx, c, p) })
}

// pace makes c pass the meter. A circuit over a relay does already: its bytes travel inside another connection.
func (m *meter) pace(c net.Conn) net.Conn {
	if _, ok := c.RemoteAddr().(*net.TCPAddr); !ok {
		return c
	}
	p := &pacedConn{Conn: c, meter: m, done: make(chan struct{})}
	m.mu.Lock()
	m.conns[p] = struct{}{}
	m.mu.Unlock()
	p.fitBuffer()
	return p
}

// pacedConn is a TCP connection under a meter.
type pacedConn struct {
	net.Conn
	meter *meter
	once  sync.Once
	done  chan struct{} // closed by Close

	mu       sync.Mutex // guards deadline
	deadline time.Time  // of writing
}

func (c *pacedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.meter.pass(&c.meter.down, n, c.done)
	}
	return n, err
}

// Write waits for its turn; the time that it waits does not count against its deadline.
func (c *pacedConn) Write(p []byte) (int, error) {
	if waited := c.meter.pass(&c.meter.up, len(p), c.done); waited > 0 {
		c.extend(waited)
	}
	return c.Conn.Write(p)
}

func (c *pacedConn) extend(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.deadline.IsZero() {
		c.deadline = c.deadline.Add(d)
		c.Conn.SetWriteDeadline(c.deadline)
	}
}

func (c *pacedConn) SetDeadline(t time.Time) error {
	return errors.Join(c.Conn.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *pacedConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.Conn.SetWriteDeadline(t)
}

func (c *pacedConn) Close() error {
	c.once.Do(func() {
		close(c.done)
		c.meter.mu.Lock()
		delete(c.meter.conns, c)
		c.meter.mu.Unlock()
	})
	return c.Conn.Close()
}

// RemoteMultiaddr is the socket's, for who looks through.
func (c *pacedConn) RemoteMultiaddr() ma.Multiaddr {
	if m, ok := c.Conn.(interface{ RemoteMultiaddr() ma.Multiaddr }); ok {
		return m.RemoteMultiaddr()
	}
	return nil
}

// SyscallConn is the socket's, for who sets its options.
func (c *pacedConn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// fitBuffer keeps the kernel from taking in far more than the cap lets through: a quarter of a second's worth.
func (c *pacedConn) fitBuffer() {
	rate := c.meter.down.rate.Load()
	if rate == 0 {
		return
	}
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, capBuffer(rate)) // best effort
		})
	}
}

func capBuffer(rate int64) int { return int(min(max(rate/4, 32<<10), 4<<20)) }

// muxer is yamux with large frames, or, where a cap is in force, with small ones: up to 64 frames of a connection wait
// in a queue that heartbeats share.
type muxer struct {
	meter       *meter
	large, slow yamux.Transport
}

func newMuxer(m *meter) *muxer {
	x := &muxer{meter: m, large: *yamux.DefaultTransport, slow: *yamux.DefaultTransport}
	x.large.MaxMessageSize = 128 << 10 // larger ones leave the processor's caches, smaller ones cost more calls
	x.slow.MaxMessageSize = 8 << 10
	x.slow.ConnectionWriteTimeout = time.Minute
	return x
}

// NewConn implements network.Multiplexer.
func (x *muxer) NewConn(c net.Conn, server bool, scope network.PeerScope) (network.MuxedConn, error) {
	if x.meter.capped() {
		return x.slow.NewConn(c, server, scope)
	}
	return x.large.NewConn(c, server, scope)
}
