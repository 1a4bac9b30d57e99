package collective

import (
	"errors"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
)

// delivery is a chunk on its way in.
type delivery struct {
	g      *Group
	from   record.PeerID
	frame  *Frame
	buffer []byte
	mem    []float32 // behind buffer, unless that is place
	place  []float32 // where the numbers of a result belong, or nil
}

func (d *delivery) Buffer() []byte { return d.buffer }

func (d *delivery) Drop() {
	if d.place != nil {
		d.g.abandon(d.frame, d.place)
	}
	d.g.give(d.mem)
}

// Done hashes and decodes a chunk of a result here, on the lane's goroutine, so that lanes do it at the same time.
func (d *delivery) Done(reply func(xfer.Code)) {
	f := d.frame
	if f.Kind == FrameResult {
		h := hashBytes(d.buffer)
		f.hash = &h
	}
	switch {
	case f.Codec == exact.FP32 && d.place != nil:
		f.Data = d.place
	case f.Codec == exact.FP32:
		f.Data = d.mem
	case d.place != nil:
		f.Codec.Stream(d.place, d.buffer)
		d.g.give(d.mem)
		f.Data = d.place
	default:
		f.Data, f.Wire = d.mem, d.buffer
	}
	if f.Codec == exact.FP32 && bigEndian {
		swap(bytesOf(f.Data))
	}
	d.g.deliver(d.from, f, reply)
}

func (g *Group) reply(r *Receipt) {
	reply := g.replies[r.Frame]
	delete(g.replies, r.Frame)
	if reply == nil {
		return
	}
	var why Refusal
	errors.As(r.Err, &why)
	reply(xfer.Code(why))
}

func (g *Group) expect(from record.PeerID, f *Frame, n int) (into []float32, held bool, why Refusal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, false, RefusedUnknown
	}
	return g.m.expect(from, f, n)
}

func (g *Group) abandon(f *Frame, into []float32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.m.abandon(f, into)
}

// sizes of memory that is used again, in elements: a full chunk in int8, bf16 and fp32. Fresh memory costs more than
// filling it. Chunks below half the first are left to the garbage collector.
var sizes = [...]int{(MaxChunkLen + 4*MaxChunkLen/exact.Block) / 4, MaxChunkLen / 2, MaxChunkLen}

// memory is room for n elements.
func (g *Group) memory(n int) []float32 {
	for i, size := range sizes {
		if n > size || n < sizes[0]/2 {
			continue
		}
		if b, ok := g.m.chunks.get(size); ok {
			return b[:n]
		}
		if b, ok := g.pools[i].Get().(*[]float32); ok {
			return (*b)[:n]
		}
		return make([]float32, n, size)
	}
	return make([]float32, n)
}

// give takes back what memory gave.
func (g *Group) give(b []float32) {
	if g.m.chunks.put(b) {
		return
	}
	for i, size := range sizes {
		if cap(b) == size {
			b = b[:size]
			g.pools[i].Put(&b)
		}
	}
}

func (g *Group) deliver(from record.PeerID, f *Frame, reply replyFunc) {
	g.mu.Lock()
	closed := g.closed
	if !closed {
		g.replies[f] = reply
	}
	g.mu.Unlock()
	if closed {
		reply(xfer.Code(RefusedUnknown))
		return
	}
	g.step(func() []Effect { return g.m.Frame(from, f) })
}
