package collective

import (
	"crypto/sha256"
	"errors"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
)

// delivery is a chunk on its way in.
type delivery struct {
	g     *Group
	from  record.PeerID
	frame *Frame
	data  []float32

	placed bool // data is a place in a result
}

func (d *delivery) Buffer() []byte { return bytesOf(d.data) }

func (d *delivery) Drop() {
	if d.placed {
		d.g.abandon(d.frame, d.data)
	} else {
		d.g.give(d.data)
	}
}

// Done hashes a chunk of a result here, on the lane's goroutine, so that lanes do it at the same time.
func (d *delivery) Done(reply func(xfer.Code)) {
	d.frame.Data = d.data
	if d.frame.Kind == FrameResult {
		h := Hash(sha256.Sum256(bytesOf(d.data)))
		d.frame.hash = &h
	}
	if bigEndian {
		swap(bytesOf(d.data))
	}
	d.g.deliver(d.from, d.frame, reply)
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

// memory is room for a chunk. Large chunks use memory again: fresh memory costs more than filling it.
func (g *Group) memory(n int) []float32 {
	if n > pooledLen {
		if b, ok := g.pool.Get().(*[]float32); ok {
			return (*b)[:n]
		}
		return make([]float32, n, MaxChunkLen)
	}
	return make([]float32, n)
}

// give takes back what memory gave.
func (g *Group) give(b []float32) {
	if cap(b) == MaxChunkLen {
		b = b[:cap(b)]
		g.pool.Put(&b)
	}
}

const pooledLen = MaxChunkLen / 8 // elements; smaller chunks are left to the garbage collector

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
