package collective

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
)

// Events are what a Group tells. They are called one at a time, in the order things happened, from a goroutine that does
// nothing else, so they may wait.
type Events struct {
	Have func(Have) // to the job's leader
	Done func(Done) // the result of a cut is complete here
	Step func(Step) // owners step: Group.Stepped answers, from anywhere

	Room Room // where results, and chunks that come in, lie; nil: in memory. It outlives the Group
}

// Group runs the Machine of one job over the network. It is safe for concurrent use.
//
// Plan, Local, Cut, Release, Commit and Reset are the Machine's events; they return at once, without waiting for the
// network, and take effect in the order of their calls. Chunks are sent and received meanwhile; what fails on its way
// is sent again after a pause, as long as its plan is in force.
type Group struct {
	e    *Exchange
	job  cid.Cid
	on   Events
	wake chan struct{} // there is something for perform
	news chan struct{} // and for tell
	stop chan struct{}
	done sync.WaitGroup

	under atomic.Int64 // sends that are under way

	mu       sync.Mutex // guards the rest
	m        *Machine
	closed   bool
	sends    []task               // oldest first
	events   []Effect             // oldest first
	replies  map[*Frame]replyFunc // frames without a receipt
	leases   map[PieceID]*lease   // own pieces that transfers may read under the plan in force
	expired  []*lease             // the same of earlier attempts
	result   *lease               // the same for the result of the plan in force
	last     *lease               // and for the last committed one
	former   []*lease             // results of earlier attempts of the round
	reportAt time.Time            // when to make a deferred Have; zero: none
	retries  map[record.PeerID]*retry
	pools    [len(sizes)]sync.Pool // of *[]float32 for chunks that come in
	scratch  sync.Pool             // of *[]byte for parts that are encoded on their way out
	changed  chan struct{}         // closed when Delivered may have changed; nil: nobody waits
}

// task is a frame to send and the lease of its data.
type task struct {
	*Send
	lease *lease
}

type replyFunc func(xfer.Code)

// A failed send is repeated after a pause that doubles up to a bound, and starts again from the first after a success.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 5 * time.Second
)

// retry is when to send again to a peer what failed.
type retry struct {
	pause time.Duration // before the next one
	at    time.Time     // zero: nothing failed since the last one
	since time.Time     // of the first failure after something got through; zero: none, see Unreached
}

// partialCost delays a Have of less than everything by what its sums may cost: adding up an owned element takes about a
// nanosecond per piece (measured), so that haste wastes about a tenth of the time at most.
const partialCost = 10 * time.Nanosecond

func newGroup(e *Exchange, job cid.Cid, self Member, on Events) *Group {
	g := &Group{
		e: e, job: job, on: on, wake: make(chan struct{}, 1), news: make(chan struct{}, 1), stop: make(chan struct{}), m: New(self),
		replies: map[*Frame]replyFunc{}, leases: map[PieceID]*lease{}, result: &lease{}, last: &lease{},
		retries: map[record.PeerID]*retry{},
	}
	g.m.DeferPartial()
	g.m.results, g.m.chunks = newLodging(on.Room, mostResults), newLodging(on.Room, mostChunks)
	g.m.free = g.give
	g.done.Go(g.perform)
	g.done.Go(g.tell)
	return g
}

// Plan puts a plan or a further attempt in force.
func (g *Group) Plan(p *Plan) {
	g.step(func() []Effect {
		before := g.m.plan
		out := g.m.Plan(p)
		if g.m.plan != before {
			over := before == nil || !before.sameRound(p.Key)
			g.retake(over)
			if !g.m.keepsOwn(before) {
				g.retakeFormer()
			}
		}
		return out
	})
}

// Local hands in this member's own piece. v is read until Commit, Withdraw, Reset or a plan of another round returns.
func (g *Group) Local(k Mark, v []float32) { g.step(func() []Effect { return g.m.Local(k, v) }) }

// Withdraw takes back what Local handed in: when it returns nobody reads this member's own pieces any more.
func (g *Group) Withdraw() {
	g.step(func() []Effect {
		out := g.m.Withdraw()
		g.retakePieces(true)
		return out
	})
}

// Cut names the set that counts.
func (g *Group) Cut(k Key, set []Mark) { g.step(func() []Effect { return g.m.Cut(k, set) }) }

// Release says that the totals are in the log.
func (g *Group) Release(k Key, t Totals) {
	g.step(func() []Effect {
		g.retakeFormer() // results are written now
		return g.m.Release(k, t)
	})
}

// Commit ends the round. Results go on to members that miss them; nobody reads this member's pieces any more.
func (g *Group) Commit(k Key) {
	g.step(func() []Effect {
		was := g.m.closed
		out := g.m.Commit(k)
		if g.m.closed && !was {
			g.last.take()
			g.last, g.result = g.result, &lease{}
			g.retake(true)
		}
		return out
	})
}

// Recycle gives back the vector of a Done that nobody reads any more, so that a later round need not find new memory.
func (g *Group) Recycle(v []float32) {
	g.step(func() []Effect {
		g.m.Recycle(v)
		return nil
	})
}

// Reset forgets everything.
func (g *Group) Reset() {
	g.step(func() []Effect {
		out := g.m.Reset()
		g.last.take()
		g.retake(true)
		return out
	})
}

// Reachable says that a peer can be reached again, so that what failed need not wait for its pause.
func (g *Group) Reachable(id record.PeerID) {
	g.step(func() []Effect {
		delete(g.retries, id)
		return g.m.Retry(id)
	})
}

// Delivered waits until this member's piece has reached everybody who needs it under the plan in force, or does not
// count any more: its round is over or a further attempt does not list it.
func (g *Group) Delivered(ctx context.Context, id PieceID) error {
	for {
		g.mu.Lock()
		if g.closed || g.m.pieces[id] == nil || g.m.Delivered(id) {
			g.mu.Unlock()
			return ctx.Err()
		}
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed := g.changed
		g.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close leaves the job and waits for what the Group does; Events are not called after it returned. It must not be
// called from one of them.
func (g *Group) Close() {
	g.e.leave(g)
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return
	}
	g.closed = true
	for f, reply := range g.replies {
		delete(g.replies, f)
		reply(xfer.Code(RefusedUnknown))
	}
	g.last.take()
	g.retake(true)
	g.notify()
	g.mu.Unlock()
	close(g.stop)
	g.done.Wait()
}

// step runs one event of the machine and keeps what is to be done about it, in order.
func (g *Group) step(event func() []Effect) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.keep(event())
	g.notify()
	if g.m.Deferred() && g.reportAt.IsZero() {
		g.reportAt = time.Now().Add(time.Duration(g.m.owned()*len(g.m.plan.Pieces)) * partialCost)
	}
	poke(g.wake)
	poke(g.news)
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// retake takes back the leases of what an older plan sent; the machine sends again what still counts. When the round is
// over nothing may be read any more; in a further attempt of it, what is on its way may arrive.
func (g *Group) retake(over bool) {
	g.result.expire()
	g.former = append(g.former, g.result)
	g.result = &lease{}
	if over {
		g.retakeFormer()
	}
	g.retakePieces(over)
}

// retakeFormer ends what still travels of results of earlier attempts.
func (g *Group) retakeFormer() {
	for _, l := range g.former {
		l.take()
	}
	g.former = nil
}

// retakePieces does the same for pieces; those that count under the plan in force stay on their way, unless over.
func (g *Group) retakePieces(over bool) {
	for id, l := range g.leases {
		if !over && g.m.pieces[id] != nil {
			continue
		}
		l.expire()
		g.expired = append(g.expired, l)
		delete(g.leases, id)
	}
	if over {
		for _, l := range g.expired {
			l.take()
		}
		g.expired = nil
	}
}

// notify wakes who waits in Delivered. Called with mu held.
func (g *Group) notify() {
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// keep queues effects, each Send with its lease; receipts go out at once. Called with mu held.
func (g *Group) keep(out []Effect) {
	for _, e := range out {
		switch {
		case e.Receipt != nil:
			g.reply(e.Receipt)
		case e.Send == nil:
			g.events = append(g.events, e)
		default:
			g.sends = append(g.sends, task{e.Send, g.lease(e.Send.Frame)})
		}
	}
}

// lease is what guards the data of an outgoing frame.
func (g *Group) lease(f *Frame) *lease {
	switch {
	case f.Kind == FrameResult && g.m.closed:
		return g.last
	case f.Kind == FrameResult:
		return g.result
	}
	id := f.Mark.PieceID
	if g.leases[id] == nil {
		g.leases[id] = &lease{}
	}
	return g.leases[id]
}
