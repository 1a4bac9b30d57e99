package collective

import (
	"fmt"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
)

// Exchange is the collective of a whole node: it takes the chunks that peers send and gives each to its job's Group.
// It is safe for concurrent use.
type Exchange struct {
	x *xfer.Xfer

	mu     sync.Mutex // guards groups
	groups map[cid.Cid]*Group
}

// NewExchange makes the collective a service of x. There is one per node.
func NewExchange(x *xfer.Xfer) *Exchange {
	e := &Exchange{x: x, groups: map[cid.Cid]*Group{}}
	x.Handle(Service, e)
	return e
}

// Join makes this node a member of a job until the Group is closed.
func (e *Exchange) Join(job cid.Cid, self Member, on Events) (*Group, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.groups[job] != nil {
		return nil, fmt.Errorf("this node is in job %s already", job)
	}
	g := newGroup(e, job, self, on)
	e.groups[job] = g
	return g, nil
}

func (e *Exchange) leave(g *Group) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.groups[g.job] == g {
		delete(e.groups, g.job)
	}
}

func (e *Exchange) group(job cid.Cid) *Group {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.groups[job]
}

// Offer implements xfer.Service. A chunk of a job that this node is not in (yet) is refused like one of an unknown plan.
func (e *Exchange) Offer(from record.PeerID, meta []byte, size int) (xfer.Delivery, xfer.Code) {
	f, err := decodeMeta(meta, size)
	if err != nil {
		return nil, xfer.Code(RefusedMalformed)
	}
	g := e.group(f.Key.Job)
	if g == nil {
		return nil, xfer.Code(RefusedUnknown)
	}
	n, _ := f.Codec.Elements(size)
	into, held, why := g.expect(from, f, n)
	if held || why != 0 {
		return nil, xfer.Code(why)
	}
	d := &delivery{g: g, from: from, frame: f, place: into}
	if into == nil || f.Codec != exact.FP32 {
		d.mem = g.memory((size + 3) / 4)
		d.buffer = bytesOf(d.mem)[:size]
	} else {
		d.buffer = bytesOf(into)
	}
	return d, xfer.Taken
}
