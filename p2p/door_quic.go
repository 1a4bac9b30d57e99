package p2p

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/transport"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// maxWaiting bounds the QUIC connections that are in the exchange at once; who comes beyond it is hung up on.
const maxWaiting = 64

// doorQUIC is QUIC whose connections begin with the exchange, on their first stream, before the host sees them.
type doorQUIC struct {
	transport.Transport
	keeper *doorkeeper
	self   record.PeerID
}

func (d *doorkeeper) newQUIC(key crypto.PrivKey, cm *quicreuse.ConnManager, psk pnet.PSK, gater connmgr.ConnectionGater, rcmgr network.ResourceManager) (*doorQUIC, error) {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	self := record.PeerID(id.String())
	if self != d.self {
		if cm, err = d.probes(); err != nil {
			return nil, err
		}
	}
	t, err := quic.NewTransport(key, cm, psk, gater, rcmgr)
	return &doorQUIC{t, d, self}, err
}

// ListenOrder makes libp2p listen here when the plain transport would.
func (t *doorQUIC) ListenOrder() int { return quic.ListenOrder }

// Close ends the plain transport.
func (t *doorQUIC) Close() error {
	if c, ok := t.Transport.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Dial implements transport.Transport. While two nodes punch a hole one of them, although it dials, is QUIC's server.
func (t *doorQUIC) Dial(ctx context.Context, addr ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	c, err := t.Transport.Dial(ctx, addr, p)
	if err != nil {
		return nil, err
	}
	side := func(c transport.CapableConn) error { return t.enter(ctx, c) }
	if ok, client, _ := network.GetSimultaneousConnect(ctx); ok && !client {
		side = t.receive
	}
	if err := t.check(ctx, c, side); err != nil {
		return nil, err
	}
	return c, nil
}

// check runs one side of the exchange in bounded time and ends the connection when it fails.
func (t *doorQUIC) check(ctx context.Context, c transport.CapableConn, side func(transport.CapableConn) error) error {
	limited, cancel := context.WithTimeout(ctx, doorTimeout)
	defer cancel()
	defer context.AfterFunc(limited, func() { c.Close() })()
	err := side(c)
	if err != nil {
		t.keeper.failed(ctx, record.PeerID(c.RemotePeer().String()), err)
		c.Close()
	}
	return err
}

func (t *doorQUIC) enter(ctx context.Context, c transport.CapableConn) error {
	s, err := c.OpenStream(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(doorTimeout))
	return t.keeper.enter(s, t.self, record.PeerID(c.RemotePeer().String()))
}

func (t *doorQUIC) receive(c transport.CapableConn) error {
	s, err := c.AcceptStream()
	if err != nil {
		return left(err)
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(doorTimeout))
	return t.keeper.receive(s, t.self, record.PeerID(c.RemotePeer().String()))
}

// Listen implements transport.Transport.
func (t *doorQUIC) Listen(addr ma.Multiaddr) (transport.Listener, error) {
	l, err := t.Transport.Listen(addr)
	if err != nil {
		return nil, err
	}
	d := &doorListener{Listener: l, t: t, admitted: make(chan transport.CapableConn), slots: make(chan struct{}, maxWaiting)}
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.wg.Go(d.run)
	return d, nil
}

// doorListener hands on the connections whose exchange went well.
type doorListener struct {
	transport.Listener
	t        *doorQUIC
	admitted chan transport.CapableConn
	slots    chan struct{}   // one per connection in the exchange
	ctx      context.Context // ends when the listener does
	stop     context.CancelFunc
	wg       sync.WaitGroup
}

func (l *doorListener) run() {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			l.stop()
			return
		}
		select {
		case l.slots <- struct{}{}:
			l.wg.Go(func() { l.admit(c) })
		default:
			c.CloseWithError(network.ConnRateLimited)
		}
	}
}

func (l *doorListener) admit(c transport.CapableConn) {
	err := l.t.check(l.ctx, c, l.t.receive)
	<-l.slots
	if err != nil {
		return
	}
	select {
	case l.admitted <- c:
	case <-l.ctx.Done():
		c.Close()
	}
}

// Accept implements transport.Listener.
func (l *doorListener) Accept() (transport.CapableConn, error) {
	select {
	case c := <-l.admitted:
		return c, nil
	case <-l.ctx.Done():
		return nil, transport.ErrListenerClosed
	}
}

// Close implements transport.Listener; exchanges under way end.
func (l *doorListener) Close() error {
	l.stop()
	err := l.Listener.Close()
	l.wg.Wait()
	return err
}

var _ interface {
	transport.Transport
	io.Closer
} = (*doorQUIC)(nil)
