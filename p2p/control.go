package p2p

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Bounds of what waits. A raft catch-up needs some MiB; a flooding peer gets no more.
var (
	sendLimits  = limits{peerCount: 2048, peerBytes: 8 << 20, count: 2048, bytes: 8 << 20}   // one link
	topicLimits = limits{peerCount: 2048, peerBytes: 4 << 20, count: 16384, bytes: 64 << 20} // one handled topic
	waitLimits  = limits{peerCount: 256, peerBytes: 1 << 20, count: 4096, bytes: 32 << 20}   // all topics nobody handles yet
)

// Control sends and receives ordered messages, see the package comment.
type Control struct {
	h *Host

	mu      sync.Mutex // guards the rest
	links   map[record.PeerID]*link
	in      map[record.PeerID]*inbound
	topics  map[string]*topic
	waiting *mailbox
	serial  uint64
	dropped int
}

// inbound is a peer's live stream.
type inbound struct {
	hello hello
	s     *Stream
}

// topic is a handled topic.
type topic struct {
	box  *mailbox      // guarded by Control.mu
	wake chan struct{} // one pending signal
	quit chan struct{} // closed by stop
	done chan struct{} // closed by its goroutine
}

func newControl(h *Host) *Control {
	return &Control{
		h: h, links: map[record.PeerID]*link{}, in: map[record.PeerID]*inbound{},
		topics: map[string]*topic{}, waiting: newMailbox(waitLimits),
	}
}

// Send queues a message for a peer and returns at once; payload must not be changed afterwards. It connects if an
// address is known. An error means that the message can never be sent; without one it may still be lost.
func (c *Control) Send(to record.PeerID, topic string, payload []byte) error {
	if topic == "" || len(topic) > MaxTopic || len(payload) > MaxPayload {
		return fmt.Errorf("control message of %d bytes on topic %.64q: limits are %d and 1 to %d", len(payload), topic, MaxPayload, MaxTopic)
	}
	if _, err := decodeID(to); err != nil {
		return err
	}
	if to == c.h.id {
		return errors.New("control message to this node itself")
	}
	return c.enqueue(message{peer: to, topic: topic, payload: payload})
}

// Handle runs fn for every message on topic, one at a time, in the order received from each peer, beginning with
// those that waited for a handler. A topic has one handler at a time. stop ends the calls and waits for a running one; it must
// not be called from fn. Messages that come later wait for the next handler.
func (c *Control) Handle(name string, fn func(from record.PeerID, payload []byte)) (stop func()) {
	t := &topic{box: newMailbox(topicLimits), wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	if !c.h.begin() {
		return func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.topics[name] != nil {
		panic("p2p: two handlers for control topic " + name)
	}
	c.topics[name] = t
	c.waiting.extract(name, t.box)
	t.signal()
	go func() {
		defer c.h.wg.Done()
		c.deliver(t, fn)
	}()
	return sync.OnceFunc(func() {
		c.mu.Lock()
		delete(c.topics, name)
		c.mu.Unlock()
		close(t.quit)
		<-t.done
	})
}

// Dropped counts the messages, sent or received, that full queues displaced.
func (c *Control) Dropped() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped
}

func (t *topic) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (c *Control) deliver(t *topic, fn func(record.PeerID, []byte)) {
	defer close(t.done)
	for {
		select {
		case <-t.quit:
			return
		case <-c.h.ctx.Done():
			return
		case <-t.wake:
		}
		for m, ok := c.next(t); ok; m, ok = c.next(t) {
			fn(m.peer, m.payload)
		}
	}
}

func (c *Control) next(t *topic) (message, bool) {
	select {
	case <-t.quit:
		return message{}, false
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return t.box.take()
}

// serve reads a peer's stream until it fails or a newer one takes its place.
func (c *Control) serve(s *Stream) {
	r := bufio.NewReaderSize(s, 16<<10)
	hi, err := c.meet(s, r)
	if err != nil {
		c.h.cfg.Log.Debug("control stream refused", "peer", s.peer, "why", err)
		reply(s, frame{kind: kindBye, payload: clip(err.Error())})
		s.Close() // a reset might overtake the reason
		return
	}
	defer s.Reset()
	in := &inbound{hello: hi, s: s}
	if !c.greet(in) {
		return
	}
	defer c.leave(in)
	if c.h.hello(s, hi.boot) {
		reply(s, frame{kind: kindClone})
	}
	err = c.receive(in, r)
	c.h.cfg.Log.Debug("control stream from peer ended", "peer", s.peer, "why", err)
}

// meet waits for the hello of a node of our swarm.
func (c *Control) meet(s *Stream, r io.Reader) (hello, error) {
	s.SetReadDeadline(time.Now().Add(helloTimeout))
	f, err := readFrame(r)
	if err != nil {
		return hello{}, err
	}
	hi, err := parseHello(f, c.h.cfg.Swarm)
	if err == nil {
		c.h.identified(s)
	}
	return hi, err
}

// greet makes in the peer's live stream, unless a newer one is.
func (c *Control) greet(in *inbound) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.in[in.s.peer]
	if old != nil && old.hello.boot == in.hello.boot && old.hello.serial >= in.hello.serial {
		return false
	}
	c.in[in.s.peer] = in
	if old != nil {
		c.h.wg.Go(func() { old.s.Reset() }) // wakes its reader; not under the lock, it may write
	}
	return true
}

// leave forgets in; the peer is down if that was its last sign of being there.
func (c *Control) leave(in *inbound) {
	c.mu.Lock()
	if c.in[in.s.peer] == in {
		delete(c.in, in.s.peer)
	}
	c.mu.Unlock()
	c.h.left(in.s.peer)
}

// greeted reports whether the peer has a live stream to us.
func (c *Control) greeted(id record.PeerID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in[id] != nil
}

func (c *Control) receive(in *inbound, r io.Reader) error {
	for {
		in.s.SetReadDeadline(time.Now().Add(frameTimeout))
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		switch f.kind {
		case kindPing:
			if err := reply(in.s, frame{kind: kindPong, payload: f.payload}); err != nil {
				return err
			}
		case kindMessage:
			if !c.dispatch(in, f) {
				return nil
			}
		default:
			return fmt.Errorf("%w: kind %d after hello", errFrame, f.kind)
		}
	}
}

// dispatch puts a message where its handler finds it, unless in is no longer the peer's live stream.
func (c *Control) dispatch(in *inbound, f frame) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.in[in.s.peer] != in {
		return false
	}
	m := message{peer: in.s.peer, topic: f.topic, payload: f.payload}
	if t := c.topics[f.topic]; t != nil {
		c.dropped += t.box.put(m)
		t.signal()
	} else {
		c.dropped += c.waiting.put(m)
	}
	return true
}

// reply writes a small frame backwards.
func reply(s *Stream, f frame) error {
	s.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := s.Write(f.append(nil))
	return err
}

func clip(text string) []byte { return []byte(text[:min(len(text), maxBye)]) }
