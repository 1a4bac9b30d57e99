package p2p

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// A stream for bulk has a TCP connection of its own beside those of libp2p, whose multiplexer costs two copies of every
// byte, and whose buffers heartbeats would wait in. The two sides agree on it over an ordinary stream, which proved who
// they are and, in a private swarm, that they belong to it:
//
//	dialer, on a stream of /shoal/bulk/1:   version u8 = 1 | length u8 | protocol | secret 32
//	listener, on the same:                  ticket 16 | secret 32
//	dialer, on a TCP connection to the listener's ordinary port, after the negotiation of raw.go:   ticket
//
// The connection carries records sealed with keys that follow from both secrets and the ticket (seal.go); the first, of one byte
// from the listener, says that it has begun. It lives as long as the stream on which it was agreed. Where it does not come
// about (NAT, a relay, QUIC alone, a cap in force) OpenBulk fails, and the caller takes an ordinary stream.
const (
	bulkProtocol = "/shoal/bulk/1"
	bulkVersion  = 1
	ticketLen    = 16
	secretLen    = 32
	bulkTimeout  = 5 * time.Second  // of each side's steps
	barredFor    = 10 * time.Minute // a peer that could not be dialed is not tried again for this long
	maxBarred    = 1024             // peers
	maxTickets   = 256              // connections that are awaited
)

// bulk is what a host knows of its connections for bulk.
type bulk struct {
	mu       sync.Mutex // guards the rest
	handlers map[string]func(*Stream)
	tickets  map[[ticketLen]byte]chan net.Conn // awaited; each channel takes one
	barred   map[record.PeerID]time.Time       // until when
}

var errNoBulk = errors.New("no connection for bulk")

// HandleBulk is Handle for streams that peers open with OpenBulk.
func (h *Host) HandleBulk(proto string, fn func(*Stream)) {
	h.bulk.mu.Lock()
	h.bulk.handlers[proto] = fn
	h.bulk.mu.Unlock()
	h.Handle(bulkProtocol, h.serveBulk)
}

// UnhandleBulk refuses further streams for bulk for proto.
func (h *Host) UnhandleBulk(proto string) {
	h.bulk.mu.Lock()
	defer h.bulk.mu.Unlock()
	delete(h.bulk.handlers, proto)
}

// OpenBulk opens a stream for bulk to a peer, see above.
func (h *Host) OpenBulk(ctx context.Context, to record.PeerID, proto string) (*Stream, error) {
	if h.meter.capped() || h.bulk.isBarred(to) {
		return nil, errNoBulk
	}
	s, err := h.Open(ctx, to, bulkProtocol)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, bulkTimeout)
	defer cancel()
	out, err := h.dialBulk(ctx, s, proto)
	if err != nil {
		s.Reset()
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			h.bulk.bar(to)
		}
		return nil, fmt.Errorf("%w to %s: %w", errNoBulk, to, err)
	}
	return out, nil
}

func (h *Host) dialBulk(ctx context.Context, s *Stream, proto string) (*Stream, error) {
	addrs := h.rawAddrs(s.s.Conn())
	if len(addrs) == 0 {
		return nil, errors.New("no TCP address leads there directly")
	}
	mine := make([]byte, secretLen)
	rand.Read(mine) // never fails
	s.SetDeadline(time.Now().Add(bulkTimeout))
	if _, err := s.Write(append(append([]byte{bulkVersion, byte(len(proto))}, proto...), mine...)); err != nil {
		return nil, err
	}
	var answer [ticketLen + secretLen]byte
	if _, err := io.ReadFull(s, answer[:]); err != nil {
		return nil, err
	}
	s.SetDeadline(time.Time{})
	ticket, theirs := answer[:ticketLen], answer[ticketLen:]
	c, err := h.dialRaw(ctx, addrs)
	if err != nil {
		return nil, err
	}
	out, err := h.tie(s, c, proto, append(mine, theirs...), ticket, true)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(bulkTimeout))
	if _, err = c.Write(ticket); err == nil {
		_, err = io.ReadFull(out, make([]byte, 1))
	}
	if err != nil {
		out.Reset()
		return nil, err
	}
	out.rtt = fit(c)
	return out, c.SetDeadline(time.Time{})
}

// serveBulk is the listening side.
func (h *Host) serveBulk(s *Stream) {
	proto, theirs, err := readBulk(s)
	fn := h.bulk.handler(proto)
	if err != nil || fn == nil {
		s.Reset()
		return
	}
	ticket, arrived := h.bulk.await()
	if arrived == nil {
		s.Reset()
		return
	}
	defer h.bulk.forget(ticket)
	mine := make([]byte, secretLen)
	rand.Read(mine) // never fails
	if _, err := s.Write(append(ticket[:], mine...)); err != nil {
		s.Reset()
		return
	}
	patience := time.NewTimer(2 * bulkTimeout)
	defer patience.Stop()
	select {
	case c := <-arrived:
		s.SetDeadline(time.Time{})
		h.bulk.forget(ticket)
		out, err := h.tie(s, c, proto, append(theirs, mine...), ticket[:], false)
		if err != nil {
			return
		}
		if _, err := out.Write([]byte{bulkVersion}); err != nil {
			out.Reset()
			return
		}
		fn(out)
	case <-patience.C:
		s.Reset()
	case <-h.ctx.Done():
		s.Reset()
	}
}

// readBulk reads what a dialer wants.
func readBulk(s *Stream) (proto string, secret []byte, err error) {
	s.SetDeadline(time.Now().Add(bulkTimeout))
	var head [2]byte
	if _, err := io.ReadFull(s, head[:]); err != nil {
		return "", nil, err
	}
	if head[0] != bulkVersion {
		return "", nil, fmt.Errorf("connection for bulk of version %d, this node knows %d", head[0], bulkVersion)
	}
	b := make([]byte, int(head[1])+secretLen)
	_, err = io.ReadFull(s, b)
	return string(b[:head[1]]), b[head[1]:], err
}

// tie makes a stream of a connection and of the one on which it was agreed: when either ends, so does the other.
func (h *Host) tie(s *Stream, c net.Conn, proto string, secret, ticket []byte, dialed bool) (*Stream, error) {
	x, err := newSealed(c, secret, ticket, dialed)
	if err == nil && !h.begin() {
		err = net.ErrClosed
	}
	if err != nil {
		c.Close()
		s.Reset()
		return nil, err
	}
	go func() {
		defer h.wg.Done()
		if _, err := io.ReadFull(s.s, make([]byte, 1)); err != io.EOF { // a clean end is told on the connection too
			c.Close()
		}
	}()
	count := h.traffic.of(protocol.ID(proto))
	return &Stream{s: s.s, carrier: &tied{x, s.s, count}, proto: proto, peer: s.peer, life: s.life, bulk: h.meter}, nil
}

// tied is a connection and the stream it hangs on.
type tied struct {
	*sealed
	tether network.Stream
	count  *counter
}

func (t *tied) Read(p []byte) (int, error) {
	n, err := t.sealed.Read(p)
	t.count.down.Add(uint64(n))
	return n, err
}

func (t *tied) Write(p []byte) (int, error) {
	n, err := t.sealed.Write(p)
	t.count.up.Add(uint64(n))
	return n, err
}

func (t *tied) WriteLent(head []byte, lend func(func([]byte)) bool) (bool, error) {
	n := len(head)
	lent, err := t.sealed.WriteLent(head, func(use func([]byte)) bool {
		return lend(func(body []byte) {
			n += len(body)
			use(body)
		})
	})
	if lent {
		t.count.up.Add(uint64(n))
	}
	return lent, err
}

func (t *tied) Close() error {
	return errors.Join(t.CloseWrite(), t.sealed.Conn.Close(), t.tether.Close())
}

func (t *tied) Reset() error {
	t.sealed.Conn.Close()
	return t.tether.Reset()
}

func (b *bulk) handler(proto string) func(*Stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.handlers[proto]
}

// await makes a ticket; arrived is nil when there are too many.
func (b *bulk) await() (ticket [ticketLen]byte, arrived chan net.Conn) {
	rand.Read(ticket[:]) // never fails
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.tickets) >= maxTickets {
		return ticket, nil
	}
	arrived = make(chan net.Conn, 1)
	b.tickets[ticket] = arrived
	return ticket, arrived
}

// forget ends a ticket, and the connection that came with it and was not taken.
func (b *bulk) forget(ticket [ticketLen]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case c := <-b.tickets[ticket]:
		c.Close()
	default:
	}
	delete(b.tickets, ticket)
}

// arrive gives a connection to who awaits it; false: nobody does.
func (b *bulk) arrive(ticket [ticketLen]byte, c net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.tickets[ticket] <- c:
		return true
	default: // unknown, or it came twice
		return false
	}
}

func (b *bulk) bar(id record.PeerID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.barred) >= maxBarred {
		clear(b.barred)
	}
	b.barred[id] = time.Now().Add(barredFor)
}

func (b *bulk) isBarred(id record.PeerID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	until, ok := b.barred[id]
	if ok && time.Now().After(until) {
		delete(b.barred, id)
		return false
	}
	return ok
}
