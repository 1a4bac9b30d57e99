package p2p

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

const (
	batchBytes   = 64 << 10 // frames written together
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 5 * time.Second
	giveUpDials  = 3 // failed attempts in a row after which what waits for an unconnected peer is dropped
)

// link is this node's stream to one peer: a queue and the goroutine that empties it. It lives while the peer is
// connected or something waits for it.
type link struct {
	c    *Control
	to   record.PeerID
	wake chan struct{} // one pending signal

	box *mailbox // guarded by Control.mu
}

// wanted starts the link to a peer that just connected.
func (c *Control) wanted(id record.PeerID) {
	if _, err := decodeID(id); err == nil {
		c.withLink(id, func(l *link) {})
	}
}

func (c *Control) enqueue(m message) error {
	return c.withLink(m.peer, func(l *link) { c.dropped += l.box.put(m) })
}

// withLink runs f on the link to id, under c.mu, and wakes it.
func (c *Control) withLink(id record.PeerID, f func(*link)) error {
	if !c.h.begin() {
		return errors.New("control message after Close")
	}
	defer c.h.wg.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.links[id]
	if l == nil {
		l = &link{c: c, to: id, wake: make(chan struct{}, 1), box: newMailbox(sendLimits)}
		c.links[id] = l
		c.h.wg.Go(l.run)
	}
	f(l)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return nil
}

// run opens the stream, keeps it fed, and opens it again when it fails.
func (l *link) run() {
	ctx := l.c.h.ctx
	for fails := 0; l.needed(fails); {
		s, err := l.open(ctx)
		opened := time.Now()
		if err == nil {
			err = l.session(ctx, s)
		}
		l.c.h.cfg.Log.Debug("control stream to peer ended", "peer", l.to, "why", err)
		if fails++; time.Since(opened) > SilenceLimit {
			fails = 0
		}
		pause(ctx, min(firstBackoff<<min(fails, 16), maxBackoff))
	}
}

// needed reports whether the link must go on, and removes it if not.
func (l *link) needed(fails int) bool {
	connected, open := l.c.h.isConnected(l.to), l.c.h.ctx.Err() == nil
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if open && (connected || len(l.box.q) > 0 && fails < giveUpDials) {
		return true
	}
	delete(l.c.links, l.to)
	return false
}

// waits reports whether a link to id still tries.
func (c *Control) waits(id record.PeerID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.links[id] != nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// session is one stream from hello to its failure.
func (l *link) session(ctx context.Context, s *Stream) error {
	defer s.Reset()
	var p pulse
	dead := make(chan error, 1)
	l.c.h.wg.Go(func() { dead <- l.listen(s, &p) })
	if err := l.write(s, l.c.nextHello().frame().append(nil)); err != nil {
		return err
	}
	tick := time.NewTicker(PingEvery)
	defer tick.Stop()
	for {
		if err := l.flush(s); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-dead:
			return err
		case <-tick.C:
			if err := l.write(s, p.ping(l.c.h.now()).append(nil)); err != nil {
				return err
			}
		case <-l.wake:
		}
	}
}

func (l *link) open(ctx context.Context) (*Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if !l.c.h.isConnected(l.to) {
		if err := l.c.h.Dial(ctx, l.to); err != nil {
			return nil, err
		}
	}
	return l.c.h.Open(ctx, l.to, controlProtocol)
}

func (c *Control) nextHello() hello {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serial++
	return hello{swarm: c.h.cfg.Swarm, boot: c.h.boot, serial: c.serial}
}

// flush writes all that waits, several frames at a time.
func (l *link) flush(s *Stream) error {
	for {
		b := l.batch()
		if len(b) == 0 {
			return nil
		}
		if err := l.write(s, b); err != nil {
			return err
		}
	}
}

func (l *link) batch() (b []byte) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	for len(b) < batchBytes {
		m, ok := l.box.take()
		if !ok {
			break
		}
		b = frame{kind: kindMessage, topic: m.topic, payload: m.payload}.append(b)
	}
	return b
}

func (l *link) write(s *Stream, b []byte) error {
	s.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := s.Write(b)
	return err
}

// listen reads what comes backwards on our stream.
func (l *link) listen(s *Stream, p *pulse) error {
	r := bufio.NewReader(s)
	for {
		f, err := readFrame(r)
		switch {
		case err != nil:
			return err
		case f.kind == kindPong:
			if rtt, ok := p.pong(f, l.c.h.now()); ok {
				s.life.observe(rtt)
			}
		case f.kind == kindClone:
			l.c.h.mu.Lock()
			l.c.h.noteClone(l.c.h.id)
			l.c.h.mu.Unlock()
		case f.kind == kindBye:
			return fmt.Errorf("refused by the peer: %.*q", maxBye, f.payload)
		default:
			return fmt.Errorf("%w: kind %d backwards", errFrame, f.kind)
		}
	}
}

// pulse matches pongs with pings. A ping carries the time it was sent at, so that nothing is kept per ping; only
// an answer to a recent one counts.
type pulse struct{ last atomic.Int64 } // time of the latest ping, ns since the host's start

func (p *pulse) ping(now time.Duration) frame {
	p.last.Store(int64(now))
	return frame{kind: kindPing, payload: binary.BigEndian.AppendUint64(nil, uint64(now))}
}

func (p *pulse) pong(f frame, now time.Duration) (rtt time.Duration, ok bool) {
	sent := int64(binary.BigEndian.Uint64(f.payload))
	if sent < 0 || sent > p.last.Load() {
		return 0, false
	}
	return now - time.Duration(sent), true
}
