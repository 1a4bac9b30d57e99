package pipe

import (
	"errors"
	"fmt"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
)

// Exchange is the pipelines of a whole node: it takes the frames that peers send and gives each to its job's Line. It is safe
// for concurrent use.
type Exchange struct {
	x *xfer.Xfer

	mu    sync.Mutex // guards lines
	lines map[cid.Cid]*Line
}

// NewExchange makes pipelines a service of x. There is one per node.
func NewExchange(x *xfer.Xfer) *Exchange {
	e := &Exchange{x: x, lines: map[cid.Cid]*Line{}}
	x.Handle(Service, e)
	return e
}

// Join makes this node a stage of a job until the Line is closed.
func (e *Exchange) Join(job cid.Cid, self record.PeerID, codec exact.Codec, on Events) (*Line, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lines[job] != nil {
		return nil, fmt.Errorf("this node is in the pipeline of job %s already", job)
	}
	l := newLine(e, job, self, codec, on)
	e.lines[job] = l
	return l, nil
}

func (e *Exchange) leave(l *Line) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lines[l.job] == l {
		delete(e.lines, l.job)
	}
}

func (e *Exchange) line(job cid.Cid) *Line {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lines[job]
}

// maxElems bounds a frame before its plan is asked: 1 GiB of float32.
const maxElems = 1 << 28

// Offer implements xfer.Service.
func (e *Exchange) Offer(from record.PeerID, meta []byte, size int) (xfer.Delivery, xfer.Code) {
	p, err := decodePart(meta, size, maxElems)
	if err != nil {
		return nil, refusedMalformed
	}
	l := e.line(p.Job)
	if l == nil {
		return nil, refusedEarly
	}
	return l.offer(from, p, size)
}

// assembly is a frame whose parts are on their way in.
type assembly struct {
	Frame
	left int // parts
	has  map[int]bool
}

// inKey names an assembly.
type inKey struct {
	from  record.PeerID
	kind  Kind
	micro uint32
}

// delivery is a part on its way in.
type delivery struct {
	line *Line
	from record.PeerID
	part part
	to   *assembly // nil: of an Ask
	buf  []byte
}

func (d *delivery) Buffer() []byte { return d.buf }

// Drop leaves the assembly as it is: the sender will send the part again, or is lost.
func (d *delivery) Drop() {}

// Done decodes on the lane's goroutine.
func (d *delivery) Done(receipt func(xfer.Code)) {
	f := d.part.Frame
	if d.to == nil {
		var err error
		if f.Lost, err = lost(d.buf); err != nil {
			receipt(refusedMalformed)
			return
		}
		receipt(d.line.receive(d.from, f))
		return
	}
	d.part.Codec.Decode(d.to.Data[d.part.At:d.part.At+d.part.len()], d.buf)
	receipt(d.line.landed(d))
}

// code is the receipt for what the machine says.
func code(err error) xfer.Code {
	switch {
	case err == nil:
		return xfer.Taken
	case errors.Is(err, ErrStale):
		return refusedStale
	case errors.Is(err, ErrFull):
		return refusedFull
	}
	return refusedMalformed
}
