package p2p

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// The records of a connection for bulk: length u32 (big endian, of what follows) and AES-128-GCM of up to maxRecord
// bytes, with the number of the record within its key as nonce. An empty record is the end: a connection that just breaks
// reads io.ErrUnexpectedEOF. After keyRecords records a key is replaced by one derived from it, so that no key seals more
// than 2^36 bytes.
const (
	maxRecord  = 256 << 10
	keyRecords = 1 << 18
	recordHead = 4
	gcmTag     = 16
	readAhead  = 1 << 10 // bytes asked for beyond a record: the next one is often small, and so costs no system call
)

var errRecord = errors.New("a record of a bulk connection is not genuine")

// sealed is a TCP connection whose bytes are sealed in records. One goroutine may read while another writes.
type sealed struct {
	net.Conn
	in, out sealing

	room    []byte // what was read ahead is room[lo:hi]
	lo, hi  int
	plain   []byte       // opened and not yet taken; lies in room
	patient atomic.Int64 // nanoseconds, see SetReadDeadline
	ended   bool

	waker *waker

	record []byte // being written
}

// sealing is one direction.
type sealing struct {
	secret []byte
	gcm    cipher.AEAD
	nonce  [12]byte
	count  uint64 // of records under the key
	limit  uint64 // of count
}

// newSealed takes the secret that both sides share and the connection's ticket; dialed tells the sides apart.
func newSealed(c net.Conn, secret, ticket []byte, dialed bool) (*sealed, error) {
	s := &sealed{Conn: c, waker: newWaker(c)}
	for _, d := range []struct {
		name string
		out  bool
	}{{"from dialer", dialed}, {"to dialer", !dialed}} {
		key, err := hkdf.Key(sha256.New, secret, ticket, "shoal bulk 1 "+d.name, 32)
		if err != nil {
			return nil, err
		}
		x := &s.in
		if d.out {
			x = &s.out
		}
		x.secret, x.limit = key, keyRecords
		if err := x.rekey(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// rekey replaces secret and key by ones derived from the secret.
func (x *sealing) rekey() error {
	b, err := hkdf.Expand(sha256.New, x.secret, "key", 48)
	if err != nil {
		return err
	}
	block, err := aes.NewCipher(b[:16])
	if err != nil {
		return err
	}
	x.secret, x.count = b[16:], 0
	x.gcm, err = cipher.NewGCM(block)
	return err
}

// next is the nonce of the next record.
func (x *sealing) next() ([]byte, error) {
	if x.count == x.limit {
		if err := x.rekey(); err != nil {
			return nil, err
		}
	}
	binary.BigEndian.PutUint64(x.nonce[4:], x.count)
	x.count++
	return x.nonce[:], nil
}

// seal appends a record of p to b.
func (x *sealing) seal(b, p []byte) ([]byte, error) {
	nonce, err := x.next()
	if err != nil {
		return b, err
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(p)+gcmTag))
	return x.gcm.Seal(b, nonce, p, nil), nil
}

// Write seals p, in records, and writes each.
func (s *sealed) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), maxRecord)]
		if s.record, err = s.out.seal(s.record[:0], part); err != nil {
			return n, err
		}
		if _, err = s.Conn.Write(s.record); err != nil {
			return n, err
		}
		n += len(part)
		p = p[len(part):]
	}
	return n, nil
}

// WriteLent writes a head and the body that lend lends, at most maxRecord bytes each, as a record each and in one go; see
// Stream.WriteLent.
func (s *sealed) WriteLent(head []byte, lend func(func([]byte)) bool) (lent bool, err error) {
	b := s.record[:0]
	lent = lend(func(body []byte) {
		for _, p := range [][]byte{head, body} {
			if len(p) > 0 && err == nil {
				b, err = s.out.seal(b, p)
			}
		}
	})
	if !lent || err != nil {
		return lent, err
	}
	s.record = b
	_, err = s.Conn.Write(b)
	return true, err
}

// Read opens a record straight into p if it fits, else into memory of its own.
func (s *sealed) Read(p []byte) (int, error) {
	if len(s.plain) == 0 && len(p) > 0 {
		n, err := s.open(p)
		if n > 0 || err != nil {
			return n, err
		}
	}
	n := copy(p, s.plain)
	s.plain = s.plain[n:]
	return n, nil
}

// open reads a record, into p if it fits (then n > 0), else into s.plain.
func (s *sealed) open(p []byte) (n int, err error) {
	if s.ended {
		return 0, io.EOF
	}
	if err := s.have(recordHead); err != nil {
		return 0, err
	}
	size := int(binary.BigEndian.Uint32(s.room[s.lo:]))
	if size < gcmTag || size > maxRecord+gcmTag {
		return 0, fmt.Errorf("%w: its length is %d", errRecord, size)
	}
	if err := s.have(recordHead + size); err != nil {
		return 0, err
	}
	box := s.room[s.lo+recordHead : s.lo+recordHead+size]
	s.lo += recordHead + size
	nonce, err := s.in.next()
	if err != nil {
		return 0, err
	}
	dst := box[:0]
	if len(p) >= size-gcmTag {
		dst = p[:0]
	}
	plain, err := s.in.gcm.Open(dst, nonce, box, nil)
	switch {
	case err != nil:
		return 0, errRecord
	case len(plain) == 0:
		s.ended = true
		return 0, io.EOF
	case len(p) >= len(plain):
		return len(plain), nil
	}
	s.plain = plain
	return 0, nil
}

// have reads until n unopened bytes are there. Each read may take as long as the deadline that was set allowed then.
func (s *sealed) have(n int) error {
	if s.room == nil {
		s.room = make([]byte, recordHead+maxRecord+gcmTag+readAhead)
	}
	if s.hi-s.lo < n && s.lo > 0 {
		s.hi, s.lo = copy(s.room, s.room[s.lo:s.hi]), 0
	}
	for s.hi-s.lo < n {
		s.waker.expect(n - (s.hi - s.lo))
		k, err := s.Conn.Read(s.room[s.hi:min(len(s.room), n+readAhead)])
		s.hi += k
		switch {
		case s.hi-s.lo >= n:
		case errors.Is(err, io.EOF):
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		default:
			if d := s.patient.Load(); d > 0 {
				s.Conn.SetReadDeadline(time.Now().Add(time.Duration(d)))
			}
		}
	}
	return nil
}

// SetReadDeadline bounds each part that the network brings: a record over a slow line may take longer.
func (s *sealed) SetReadDeadline(t time.Time) error {
	d := time.Duration(0)
	if !t.IsZero() {
		d = time.Until(t)
	}
	s.patient.Store(int64(d))
	return s.Conn.SetReadDeadline(t)
}

// CloseWrite tells the other side that nothing follows.
func (s *sealed) CloseWrite() error {
	b, err := s.out.seal(nil, nil)
	if err == nil {
		_, err = s.Conn.Write(b)
	}
	return err
}
