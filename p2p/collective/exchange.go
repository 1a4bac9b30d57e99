package collective

import (
	"fmt"
	"sync"

	"github.com/ipfs/go-cid"

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
	into, held, why := g.expect(from, f, size/4)
	if held || why != 0 {
		return nil, xfer.Code(why)
	}
	d := &delivery{g: g, from: from, frame: f, data: into, placed: into != nil}
	if !d.placed {
		d.data = g.memory(size / 4)
	}
	return d, xfer.Taken
}
