package p2p

import (
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Stream is an ordered, encrypted, flow-controlled byte stream to one peer. One goroutine may read while another
// writes. A Write that returned says nothing about delivery, and opening is lazy: that the peer does not speak the protocol
// may show only at the first Read. So set deadlines and wait for an answer before Close; Reset to give up.
type Stream struct {
	s    network.Stream
	life *life
	peer record.PeerID
	bulk *meter // what its writes wait for; nil: they are control, which goes first
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

// Protocol is what the stream was opened for.
func (s *Stream) Protocol() string { return string(s.s.Protocol()) }

func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.s.Read(p)
	if n > 0 {
		s.life.touch() // whatever arrives is a sign of life: bulk may delay pings
	}
	return n, err
}

func (s *Stream) Write(p []byte) (n int, err error) {
	for s.bulk != nil && s.bulk.up.rate.Load() != 0 && len(p) > bulkPiece {
		s.bulk.pass(&s.bulk.bulk, bulkPiece, nil)
		k, err := s.s.Write(p[:bulkPiece])
		n += k
		if err != nil {
			return n, err
		}
		p = p[k:]
	}
	if s.bulk != nil {
		s.bulk.pass(&s.bulk.bulk, len(p), nil)
	}
	k, err := s.s.Write(p)
	return n + k, err
}

// Close ends writing in order and reading at once.
func (s *Stream) Close() error { return s.s.Close() }

// CloseWrite ends writing; the peer reads io.EOF after the last byte.
func (s *Stream) CloseWrite() error { return s.s.CloseWrite() }

// Reset abandons the stream at both ends.
func (s *Stream) Reset() error { return s.s.Reset() }

// SetDeadline bounds pending and future reads and writes; the zero time lifts it.
func (s *Stream) SetDeadline(t time.Time) error { return s.s.SetDeadline(t) }

// SetReadDeadline is SetDeadline for reads.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.s.SetReadDeadline(t) }

// SetWriteDeadline is SetDeadline for writes.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.s.SetWriteDeadline(t) }
