package p2p

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Stream is an ordered, encrypted, flow-controlled byte stream to one peer. One goroutine may read while another
// writes. A Write that returned says nothing about delivery, and opening is lazy: that the peer does not speak the protocol
// may show only at the first Read. So set deadlines and wait for an answer before Close; Reset to give up.
type Stream struct {
	s       network.Stream
	carrier carrier // of the bytes: s, or the connection for bulk that hangs on it
	proto   string
	joined  []byte // of WriteLent
	life    *life
	peer    record.PeerID
	bulk    *meter        // what its writes wait for; nil: they are control, which goes first
	rtt     time.Duration // of a connection for bulk when it was opened; 0 unknown
}

// carrier is what a Stream needs of what carries its bytes.
type carrier interface {
	io.ReadWriteCloser
	CloseWrite() error
	Reset() error
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// life is what is known of a peer's being alive, shared by all its streams.
type life struct {
	heard atomic.Int64 // nanoseconds since the host's start
	rtt   atomic.Int64 // nanoseconds, smoothed; 0 unknown
	now   func() time.Duration
}

func (l *life) touch() { l.heard.Store(int64(l.now())) }

// observe smooths round-trip times like TCP (RFC 6298, alpha = 1/8).
func (l *life) observe(rtt time.Duration) {
	if old := l.rtt.Load(); old != 0 {
		rtt = time.Duration(old) + (rtt-time.Duration(old))/8
	}
	l.rtt.Store(int64(max(rtt, 1)))
}

// Peer is who is at the other end; its identity is proved.
func (s *Stream) Peer() record.PeerID { return s.peer }

// RoundTrip is how far away the peer is, in time; 0: that is not known.
func (s *Stream) RoundTrip() time.Duration {
	if s.rtt != 0 {
		return s.rtt
	}
	return time.Duration(s.life.rtt.Load())
}

// Protocol is what the stream was opened for.
func (s *Stream) Protocol() string { return s.proto }

func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.carrier.Read(p)
	if n > 0 {
		s.life.touch() // whatever arrives is a sign of life: bulk may delay pings
	}
	return n, err
}

func (s *Stream) Write(p []byte) (n int, err error) {
	for s.bulk != nil && s.bulk.up.rate.Load() != 0 && len(p) > bulkPiece {
		s.bulk.pass(&s.bulk.bulk, bulkPiece, nil)
		k, err := s.carrier.Write(p[:bulkPiece])
		n += k
		if err != nil {
			return n, err
		}
		p = p[k:]
	}
	if s.bulk != nil {
		s.bulk.pass(&s.bulk.bulk, len(p), nil)
	}
	k, err := s.carrier.Write(p)
	return n + k, err
}

// WriteLent writes a head and then the body that lend hands to its argument, in one go; lent is false, and nothing is written,
// when lend returns false. The body is not used any more when lend returns, and nothing waits for the network before. On a
// stream for bulk it is not copied either, and who reads as many bytes as it has gets them without a copy.
func (s *Stream) WriteLent(head []byte, lend func(use func(body []byte)) bool) (lent bool, err error) {
	if c, ok := s.carrier.(*tied); ok {
		if s.bulk.capped() { // since it was opened; its pieces are too large for that
			return false, errNoBulk
		}
		return c.WriteLent(head, lend)
	}
	b := append(s.joined[:0], head...)
	if !lend(func(body []byte) { b = append(b, body...) }) {
		return false, nil
	}
	s.joined = b
	_, err = s.Write(b)
	return true, err
}

// Close ends writing in order and reading at once.
func (s *Stream) Close() error { return s.carrier.Close() }

// CloseWrite ends writing; the peer reads io.EOF after the last byte.
func (s *Stream) CloseWrite() error { return s.carrier.CloseWrite() }

// Reset abandons the stream at both ends.
func (s *Stream) Reset() error { return s.carrier.Reset() }

// SetDeadline bounds pending and future reads and writes; the zero time lifts it.
func (s *Stream) SetDeadline(t time.Time) error { return s.carrier.SetDeadline(t) }

// SetReadDeadline is SetDeadline for reads.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.carrier.SetReadDeadline(t) }

// SetWriteDeadline is SetDeadline for writes.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.carrier.SetWriteDeadline(t) }
