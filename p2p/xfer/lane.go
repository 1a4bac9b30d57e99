package xfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	openTimeout = 15 * time.Second // to dial and open a stream
	laneIdle    = time.Minute      // a lane without work is closed; the receiver allows twice that
	maxPatience = time.Minute
	alivePeriod = time.Second // how often a receiver shows that it lives while it owes receipts
)

// lane is one stream at its sending end: run writes, listen reads receipts.
type lane struct {
	peer   *peer
	class  int
	stream Stream
	writer lentWriter    // the stream
	wake   chan struct{} // a receipt or the end came

	scratch []byte // of lend

	mu     sync.Mutex // guards the rest
	open   map[uint32]*sending
	out    int     // bytes of open
	window int     // bytes
	nextID uint32  // of the next transfer
	rate   float64 // bytes per second of receipts, smoothed; 0 unknown
	since  time.Time
	err    error // why the lane ended
}

// sending is a transfer without a receipt.
type sending struct {
	*Transfer
	refused bool // the receipt came before the end of the payload
	yielded bool // canceled to make room: it goes again
}

func (l *lane) run() {
	openErr := l.dial()
	if openErr == nil {
		l.peer.opened(l.class, l.far())
		var wg sync.WaitGroup
		wg.Go(l.listen)
		l.fail(l.work())
		wg.Wait()
	}
	l.peer.leave(l.class, openErr)
}

func (l *lane) dial() error {
	ctx, cancel := context.WithTimeout(l.peer.x.ctx, openTimeout)
	defer cancel()
	s, err := l.peer.x.cfg.Open(ctx, l.peer.id)
	if err != nil {
		return fmt.Errorf("transfer to %s: %w", l.peer.id, err)
	}
	l.stream = s
	if l.writer, _ = s.(lentWriter); l.writer == nil {
		l.writer = &joining{Stream: s}
	}
	return nil
}

// distant is the round trip from which a peer has one lane for bulk. On a long line two take turns to fill it, and what one
// peer's two get the other peers' lack; on a short one they use two processors. A guess between a network in a house and the
// internet.
const distant = 5 * time.Millisecond

// far tells whether the peer is at least as far as that; a stream that does not know is taken to be near.
func (l *lane) far() bool {
	s, ok := l.stream.(interface{ RoundTrip() time.Duration })
	return ok && s.RoundTrip() >= distant
}

// lentWriter is a stream that writes a head, and a body that is lent to it for the moment, in one go; p2p.Stream is one.
type lentWriter interface {
	WriteLent(head []byte, lend func(use func(body []byte)) bool) (lent bool, err error)
}

// joining is a lentWriter on any Stream.
type joining struct {
	Stream
	buf []byte
}

func (j *joining) WriteLent(head []byte, lend func(func([]byte)) bool) (bool, error) {
	j.buf = append(j.buf[:0], head...)
	if !lend(func(body []byte) { j.buf = append(j.buf, body...) }) {
		return false, nil
	}
	_, err := j.Write(j.buf)
	return true, err
}

var errIdle = errors.New("lane closed: nothing to send")

// work sends what is queued until the lane fails or has nothing to do.
func (l *lane) work() error {
	buf := make([]byte, 0, 4*headerLen+MaxMeta)
	buf = header{typ: frameHello, code: uint8(l.class)}.append(buf)
	for {
		t, err := l.next()
		if err != nil {
			return err
		}
		buf, err = l.write(buf, t)
		l.peer.written(l.class, t)
		if err != nil {
			return err
		}
	}
}

// write sends t as soon as the window has room for it.
func (l *lane) write(buf []byte, t *Transfer) ([]byte, error) {
	if err := l.admit(t); err != nil {
		t.Done(err)
		return buf, err
	}
	s, id, err := l.register(t)
	if err != nil {
		t.Done(err)
		return buf, err
	}
	return l.send(buf, s, id)
}

// next waits for a transfer.
func (l *lane) next() (*Transfer, error) {
	if t := l.peer.pop(l.class); t != nil {
		return t, nil
	}
	l.peer.count(&l.peer.idle, l.class, 1)
	defer l.peer.count(&l.peer.idle, l.class, -1)
	idle := time.NewTimer(laneIdle)
	defer idle.Stop()
	for {
		if t := l.peer.pop(l.class); t != nil {
			return t, nil
		}
		select {
		case <-l.peer.wake[l.class]:
		case <-l.wake:
			if err := l.ended(); err != nil {
				return nil, err
			}
		case <-idle.C:
			if l.quiet() {
				return nil, errIdle
			}
			idle.Reset(laneIdle)
		case <-l.peer.x.ctx.Done():
			return nil, errClosed
		}
	}
}

func (l *lane) ended() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *lane) quiet() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open) == 0
}

// admit waits until the window has room for t.
func (l *lane) admit(t *Transfer) error {
	for {
		l.mu.Lock()
		ok, err := l.out+t.Size <= l.window && len(l.open) < maxOpen, l.err
		l.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-l.wake:
		case <-l.peer.x.ctx.Done():
			return errClosed
		}
	}
}

// send writes one transfer; buf may begin with what has to go before it. It returns an empty buffer.
func (l *lane) send(buf []byte, t *sending, id uint32) ([]byte, error) {
	buf = header{typ: frameOpen, code: t.Service, meta: uint16(len(t.Meta)), id: id, size: uint32(t.Size)}.append(buf)
	buf = append(buf, t.Meta...)
	part := partSize(t.Size, t.Unit)
	for lo := 0; lo < t.Size; lo += part {
		hi := min(lo+part, t.Size)
		if l.wasRefused(t) || l.yields(t) {
			return l.flush(header{typ: frameCancel, id: id}.append(buf))
		}
		head := header{typ: frameData, id: id, size: uint32(hi - lo), offset: uint32(lo)}.append(buf)
		l.allow()
		lent, err := l.writer.WriteLent(head, func(use func([]byte)) bool { return l.lend(t.Transfer, lo, hi, use) })
		if err != nil {
			return buf, err
		}
		if !lent {
			return l.flush(header{typ: frameCancel, id: id}.append(buf))
		}
		buf = buf[:0]
	}
	if len(buf) > 0 { // no payload
		return l.flush(buf)
	}
	return buf, nil
}

// lend gives the bytes [lo, hi) of a payload to use; false: it is canceled.
func (l *lane) lend(t *Transfer, lo, hi int, use func([]byte)) bool {
	if t.Lend != nil {
		return t.Lend(lo, hi, use)
	}
	if l.scratch == nil {
		l.scratch = make([]byte, maxPart)
	}
	body := l.scratch[:hi-lo]
	if !t.Read(body, lo) {
		return false
	}
	use(body)
	return true
}

// partSize cuts a payload into as few parts as possible, of about equal size and at multiples of unit bytes, so that no
// number is cut.
func partSize(size, unit int) int {
	if unit == 0 {
		unit = 8
	}
	most := maxPart / unit * unit
	parts := max(1, (size+most-1)/most)
	per := (size + parts - 1) / parts
	return (per + unit - 1) / unit * unit
}

// register gives a transfer its number and counts it.
func (l *lane) register(t *Transfer) (*sending, uint32, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, 0, l.err
	}
	id := l.nextID
	l.nextID++
	s := &sending{Transfer: t}
	if len(l.open) == 0 {
		l.since = time.Now()
	}
	l.open[id] = s
	l.out += t.Size
	l.stream.SetReadDeadline(time.Now().Add(l.patience()))
	return s, id, nil
}

func (l *lane) wasRefused(s *sending) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.refused
}

// yields tells whether t makes room for something that is not Later.
func (l *lane) yields(s *sending) bool {
	if l.class != bulk || !s.Later || !l.peer.x.patient.pressed() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.yielded = true
	return true
}

// allow gives the next write its time.
func (l *lane) allow() {
	l.mu.Lock()
	patience := l.patience()
	l.mu.Unlock()
	l.stream.SetWriteDeadline(time.Now().Add(patience))
}

func (l *lane) flush(buf []byte) ([]byte, error) {
	l.allow()
	_, err := l.stream.Write(buf)
	return buf[:0], err
}

// patience is how long a lane may show no sign of life: several times what the bytes underway should take. Called with
// mu held.
func (l *lane) patience() time.Duration {
	floor := l.peer.x.cfg.Patience
	if l.rate == 0 {
		return floor
	}
	d := time.Duration(8 * float64(l.out+maxPart) / l.rate * float64(time.Second))
	return min(max(d, floor), maxPatience)
}

// listen reads what the receiver says until the lane ends.
func (l *lane) listen() {
	var b [headerLen]byte
	for {
		if _, err := io.ReadFull(l.stream, b[:]); err != nil {
			l.fail(fmt.Errorf("transfer to %s: %w", l.peer.id, err))
			return
		}
		h, err := parseHeader(&b)
		if err == nil {
			err = l.hear(h)
		}
		if err != nil {
			l.fail(fmt.Errorf("transfer to %s: %w", l.peer.id, err))
			return
		}
	}
}

func (l *lane) hear(h header) error {
	switch h.typ {
	case frameReceipt:
		return l.receipt(h)
	case frameWindow:
		l.mu.Lock()
		l.window = max(l.window, int(h.size))
		l.mu.Unlock()
		l.poke()
	case frameAlive:
	default:
		return fmt.Errorf("frame of type %d from a receiver", h.typ)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expect()
	return nil
}

// expect sets when the receiver must be heard of again. Called with mu held.
func (l *lane) expect() {
	if len(l.open) == 0 {
		l.stream.SetReadDeadline(time.Time{})
	} else {
		l.stream.SetReadDeadline(time.Now().Add(l.patience()))
	}
}

func (l *lane) receipt(h header) error {
	l.mu.Lock()
	s := l.open[h.id]
	if s == nil {
		l.mu.Unlock()
		return fmt.Errorf("receipt for transfer %d, which has none to come", h.id)
	}
	delete(l.open, h.id)
	l.out -= s.Size
	s.refused = true // or done: in either case nothing more is to be sent of it
	l.measure(s.Size)
	l.expect()
	yielded := s.yielded
	l.mu.Unlock()
	l.poke()
	switch c := Code(h.code); {
	case c == Taken:
		s.Done(nil)
	case c == CodeBroken && yielded:
		l.peer.push(s.Transfer)
	case c == CodeBroken:
		s.Done(ErrCanceled)
	default:
		s.Done(Refused{c})
	}
	return nil
}

// measure smooths the rate of receipts. Called with mu held.
func (l *lane) measure(size int) {
	now := time.Now()
	if d := now.Sub(l.since).Seconds(); d > 0 && size > smallSize {
		r := float64(size) / d
		if l.rate != 0 {
			r = l.rate + (r-l.rate)/8
		}
		l.rate = r
	}
	l.since = now
}

func (l *lane) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// fail ends the lane, once: its transfers have failed.
func (l *lane) fail(err error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = err
	failed := l.open
	l.open, l.out = map[uint32]*sending{}, 0
	l.mu.Unlock()
	if errors.Is(err, errIdle) {
		l.stream.Close()
	} else {
		l.stream.Reset()
	}
	l.poke()
	for _, id := range slices.Sorted(maps.Keys(failed)) {
		failed[id].Done(err)
	}
}
