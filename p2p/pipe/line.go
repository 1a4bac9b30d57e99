package pipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
)

// Events tell a Line's owner what happens. They are called one at a time, from goroutines of the network, and must not
// call the Line.
type Events struct {
	Finished    func(k Key, micro uint32)              // a micro-batch is part of this member's sum
	Unreachable func(k Key, id record.PeerID, _ error) // a frame could not be delivered: the owner may decide that the member is lost
}

// Line is a node's part in a job's pipeline: it runs a Machine over xfer. It is safe for concurrent use; Next and Done
// belong to one goroutine, that of the device.
type Line struct {
	e     *Exchange
	job   cid.Cid
	self  record.PeerID
	codec exact.Codec
	on    Events
	wake  chan struct{} // a token when there may be a task
	quiet chan struct{} // a token when no part is on its way any more

	mu     sync.Mutex // guards the rest
	m      *Machine   // nil: no plan yet
	plan   Plan
	over   bool // of the plan's round
	closed bool
	in     map[inKey]*assembly
	out    int // parts on their way to others

	telling sync.Mutex // keeps Events one at a time
}

func newLine(e *Exchange, job cid.Cid, self record.PeerID, codec exact.Codec, on Events) *Line {
	return &Line{e: e, job: job, self: self, codec: codec, on: on, wake: make(chan struct{}, 1), quiet: make(chan struct{}, 1), in: map[inKey]*assembly{}}
}

// Close leaves the job. Next returns io.ErrClosedPipe.
func (l *Line) Close() {
	l.e.leave(l)
	l.mu.Lock()
	l.closed, l.m, l.in = true, nil, nil
	l.mu.Unlock()
	l.rouse()
}

// Begin starts a round, or another attempt of it. What was of the one before is dropped.
func (l *Line) Begin(p Plan) error {
	m, err := New(p, l.self)
	if err != nil {
		return err
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return io.ErrClosedPipe
	}
	l.m, l.plan, l.over = m, p, false
	clear(l.in)
	l.unlock()
	return nil
}

// End ends the round: Next returns io.EOF until the next Begin. The member still answers those who ask it for what it has,
// until then.
func (l *Line) End() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.rouse()
}

// Drain waits until what was sent has arrived, or need not any more. Who leaves a round before all others have all they need
// of it calls Drain first: Begin and Close drop what is on its way.
func (l *Line) Drain(ctx context.Context) error {
	for {
		l.mu.Lock()
		out := l.out
		l.mu.Unlock()
		if out == 0 {
			return nil
		}
		select {
		case <-l.quiet:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settled counts a part that is not on its way any more.
func (l *Line) settled() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out--; l.out == 0 {
		select {
		case l.quiet <- struct{}{}:
		default:
		}
	}
}

// Lost says that a member does not count any more in the round.
func (l *Line) Lost(id record.PeerID) {
	l.mu.Lock()
	if l.m != nil {
		l.m.Lost(id)
	}
	l.unlock()
}

// Next waits for something to compute in an attempt of a round. io.EOF says that the round is over, ErrStale that another
// attempt or round has begun.
func (l *Line) Next(ctx context.Context, round uint64, attempt uint32) (Task, error) {
	for {
		l.mu.Lock()
		t, ok, err := l.task(round, attempt)
		l.mu.Unlock()
		if ok || err != nil {
			return t, err
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return Task{}, ctx.Err()
		}
	}
}

// task is what to compute now, if there is something.
func (l *Line) task(round uint64, attempt uint32) (t Task, ok bool, err error) {
	switch {
	case l.closed:
		return t, false, io.ErrClosedPipe
	case l.m == nil || l.plan.Round < round || l.plan.Round == round && l.plan.Attempt < attempt:
		return t, false, nil
	case l.plan.Round != round || l.plan.Attempt != attempt:
		return t, false, ErrStale
	case l.over:
		return t, false, io.EOF
	}
	t, ok = l.m.Task()
	return t, ok, nil
}

// Done hands over what became of the task that Next gave.
func (l *Line) Done(out []float32, took time.Duration) {
	l.mu.Lock()
	if l.m != nil && l.m.doing != nil { // else another attempt has begun
		l.m.Computed(out, took)
	}
	l.unlock()
}

// unlock ends a change of the machine: what it wants done is done without the lock.
func (l *Line) unlock() {
	var effects []Effect
	if l.m != nil {
		effects = l.m.Effects()
	}
	key := l.plan.Key
	l.mu.Unlock()
	for _, e := range effects {
		switch {
		case e.Send != nil:
			l.send(e.Send.To, e.Send.Frame)
		case e.Finished != nil && l.on.Finished != nil:
			l.telling.Lock()
			l.on.Finished(key, e.Finished.Micro)
			l.telling.Unlock()
		}
	}
	l.rouse()
}

func (l *Line) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Line) send(to record.PeerID, f Frame) {
	all := parts(f, l.codec)
	l.mu.Lock()
	l.out += len(all)
	l.mu.Unlock()
	for _, p := range all {
		l.sendPart(to, p, 0)
	}
}

// Delays before a part that was refused for now is sent again, doubling.
const (
	firstDelay = 5 * time.Millisecond
	lastDelay  = 500 * time.Millisecond
	tries      = 3 // of a part whose lane broke
)

// sendPart takes a part on its way. What is lost with a lane is sent again a few times.
func (l *Line) sendPart(to record.PeerID, p part, broke int) {
	meta, err := p.meta()
	var body []byte
	if err == nil {
		body, err = p.payload()
	}
	if err != nil { // our own bug: such a frame cannot be written down
		panic(fmt.Sprintf("pipe: %v", err))
	}
	delay := firstDelay
	t := &xfer.Transfer{Service: Service, Meta: meta, Size: len(body), Read: func(dst []byte, off int) bool {
		copy(dst, body[off:])
		return l.current(p.Key)
	}}
	t.Done = func(err error) {
		var no xfer.Refused
		switch {
		case err == nil || !l.current(p.Key) || errors.Is(err, xfer.ErrCanceled):
		case errors.As(err, &no) && (no.Code == refusedEarly || no.Code == refusedFull || no.Code == xfer.CodeNoService):
			time.AfterFunc(delay, func() { l.again(to, p.Key, t) })
			delay = min(2*delay, lastDelay)
			return
		case errors.As(err, &no) && no.Code == refusedMalformed:
			l.unreachable(p.Key, to, fmt.Errorf("%s of micro-batch %d: %w", p.Kind, p.Micro, err))
		case errors.As(err, &no): // the peer is in another plan, or counts this member lost: it will be told
		case broke < tries:
			time.AfterFunc(delay, func() { l.sendPart(to, p, broke+1) })
			return
		default:
			l.unreachable(p.Key, to, err)
		}
		l.settled()
	}
	l.e.x.Send(to, t)
}

func (l *Line) unreachable(k Key, id record.PeerID, err error) {
	if l.on.Unreachable == nil {
		return
	}
	l.telling.Lock()
	defer l.telling.Unlock()
	l.on.Unreachable(k, id, err)
}

// again sends a refused part once more, if that still matters.
func (l *Line) again(to record.PeerID, k Key, t *xfer.Transfer) {
	if !l.current(k) {
		l.settled()
		return
	}
	l.e.x.Send(to, t)
}

// current reports whether a plan is the one in force.
func (l *Line) current(k Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m != nil && l.plan.Key == k
}

// offer judges a part before its bytes are here.
func (l *Line) offer(from record.PeerID, p part, size int) (xfer.Delivery, xfer.Code) {
	l.mu.Lock()
	d, no := l.expect(from, p)
	if d != nil || no != xfer.Taken || p.At > 0 {
		l.mu.Unlock()
		if d == nil {
			return nil, no
		}
		d.buf = make([]byte, size)
		return d, xfer.Taken
	}
	err := l.m.Receive(from, p.Frame) // its data are not needed, or it has none
	l.unlock()
	return nil, code(err)
}

// expect says where a part's bytes go; nowhere, with Taken: they are not needed.
func (l *Line) expect(from record.PeerID, p part) (*delivery, xfer.Code) {
	switch {
	case l.m == nil || later(p.Key, l.plan.Key):
		return nil, refusedEarly
	case p.Elems > l.plan.Elems:
		return nil, refusedMalformed
	case p.Kind == Ask:
		if err := l.m.admit(from, p.Frame); err != nil {
			return nil, code(err)
		}
		return &delivery{line: l, from: from, part: p}, xfer.Taken
	}
	wants, err := l.m.Wants(from, p.Frame, l.arriving(from, p))
	if err != nil {
		return nil, code(err)
	}
	if !wants || p.Elems == 0 {
		return nil, xfer.Taken
	}
	a := l.assembly(from, p)
	if len(a.Data) != p.Elems {
		return nil, refusedMalformed
	}
	if a.has[p.At] {
		return nil, refusedTwice
	}
	return &delivery{line: l, from: from, part: p, to: a}, xfer.Taken
}

// arriving counts other frames of the same kind that are on their way in from a peer.
func (l *Line) arriving(from record.PeerID, p part) (n int) {
	for k := range l.in {
		if k.from == from && k.kind == p.Kind && k.micro != p.Micro {
			n++
		}
	}
	return n
}

// later reports whether a frame's plan comes after one.
func later(k, than Key) bool {
	if k.Generation != than.Generation {
		return k.Generation > than.Generation
	}
	return k.Round > than.Round || k.Round == than.Round && k.Attempt > than.Attempt
}

// assembly is the frame that a part belongs to.
func (l *Line) assembly(from record.PeerID, p part) *assembly {
	k := inKey{from, p.Kind, p.Micro}
	if l.in[k] == nil {
		a := &assembly{Frame: p.Frame, left: (p.Elems + span(p.Codec) - 1) / span(p.Codec), has: map[int]bool{}}
		a.Data = make([]float32, p.Elems)
		l.in[k] = a
	}
	return l.in[k]
}

// landed counts a part, and hands the frame over with its last one.
func (l *Line) landed(d *delivery) xfer.Code {
	l.mu.Lock()
	k := inKey{d.from, d.part.Kind, d.part.Micro}
	a := d.to
	if l.in[k] != a { // of another plan
		l.mu.Unlock()
		return refusedStale
	}
	if !a.has[d.part.At] {
		a.has[d.part.At] = true
		a.left--
	}
	if a.left > 0 {
		l.mu.Unlock()
		return xfer.Taken
	}
	delete(l.in, k)
	err := l.m.Receive(d.from, a.Frame)
	l.unlock()
	return code(err)
}

// receive hands over a frame without data.
func (l *Line) receive(from record.PeerID, f Frame) xfer.Code {
	l.mu.Lock()
	if l.m == nil {
		l.mu.Unlock()
		return refusedStale
	}
	err := l.m.Receive(from, f)
	l.unlock()
	return code(err)
}
