package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/simnet"
)

// node is a process: real machines, and a trainer that knows sums.
type node struct {
	*Run
	id      record.PeerID
	sim     *simnet.Node
	m       *coord.Machine
	col     *collective.Machine
	class   class
	rate    float64 // rows per second
	born    time.Duration
	leaving bool

	st      state
	ready   bool
	results map[collective.Key][]float32
	waiting []coord.Start // work for which the state is not there yet
	busy    time.Duration // until then it computes
	piece   struct {      // that it computes
		rows uint64
		took time.Duration
	}
	back      int // Rollbacks so far
	reporting bool
	failed    map[record.PeerID]bool // whom a frame did not reach
	fetching  fetching
	cps       map[cid.Cid]state
}

// state is what a trainer has.
type state struct {
	round  uint64
	commit cid.Cid
	w      []float32
	hash   collective.Hash
}

// Messages on the network, beside frames and receipts of the collective.
type (
	control struct{ msg *record.Signed }
	logMsg  struct{ payload []byte }
)

// tickIdle is how often members that do not vote look at the clock: only the log counts ticks.
const tickIdle = 250 * time.Millisecond

// join starts a member that nobody has seen before.
func (r *Run) join() *node {
	n := &node{Run: r, id: name(r.born), born: r.net.Now(), results: map[collective.Key][]float32{}, cps: map[cid.Cid]state{}, failed: map[record.PeerID]bool{}}
	r.born++
	n.sim = r.net.Node(n.id, simnet.Handler{Receive: n.receive, Peer: n.peer, Lost: n.lost})
	n.rate = float64(r.cfg.Rows) / r.cfg.Round.Seconds()
	if !r.cfg.Perfect {
		var speed float64
		n.class, speed = pick(r.net.Rand())
		n.rate *= speed
		r.net.SetRate(n.id, n.class.up, n.class.down)
		r.net.SetDelay(n.id, n.class.delay)
	}
	c := coord.Capability{RowsPerSec: n.rate, BytesPerSec: n.class.up * float64(4*r.check.dim) / float64(r.cfg.Bytes), Versions: []int{record.Version}}
	self := coord.Self{ID: n.id, Boot: n.sim.Boot(), Signer: keys{n.id, r.cache}}
	m, err := coord.New(r.g, self, c, nil)
	if err != nil {
		r.check.violated("start %s: %w", n.id, err)
		return n
	}
	n.m, n.col = m, collective.New(collective.Member{ID: n.id, Boot: self.Boot})
	n.col.DeferPartial()
	for range min(8, len(r.nodes)) { // whom a newcomer finds first
		r.net.Connect(n.id, r.nodes[r.net.Rand().IntN(len(r.nodes))].id)
	}
	if len(r.nodes) > 0 && r.net.Now() == 0 {
		r.net.Connect(n.id, name(0))
	}
	r.nodes = append(r.nodes, n)
	n.sim.After(time.Duration(r.net.Rand().Int64N(int64(tickIdle))), n.tick)
	return n
}

func (n *node) tick() {
	n.do(coord.Tick{Now: n.net.Now() - n.born})
	every := tickIdle
	if n.m.Votes() {
		every = coord.TickEvery
	}
	n.sim.After(every, n.tick)
}

func (n *node) do(e coord.Event) {
	for _, ef := range n.m.Step(e) {
		n.perform(ef)
	}
}

func (n *node) peer(id record.PeerID, up bool) {
	n.do(coord.Peer{ID: id, Up: up})
	if up && n.failed[id] {
		delete(n.failed, id)
		n.collect(n.col.Retry(id))
	}
}

func (n *node) receive(from record.PeerID, msg any) {
	switch w := msg.(type) {
	case control:
		n.do(coord.Message{From: from, Msg: w.msg})
	case logMsg:
		n.do(coord.LogMessage{From: from, Payload: w.payload})
	case *collective.Frame:
		n.collect(n.col.Frame(from, w))
	case *collective.Receipt:
		n.collect(n.col.Sent(from, w.Frame, w.Err))
	case ask:
		n.answer(from, w)
	case answer:
		n.take(w)
	}
}

// reportSoon lets the collective say what it holds while more is still on its way, this member's own piece perhaps the
// last that came.
func (n *node) reportSoon() {
	if !n.reporting && n.col.Deferred() {
		n.reporting = true
		n.sim.After(time.Second, func() {
			n.reporting = false
			n.collect(n.col.Report())
		})
	}
}

func (n *node) lost(to record.PeerID, msg any) {
	if f, ok := msg.(*collective.Frame); ok {
		n.collect(n.col.Sent(to, f, errLost))
		n.failed[to] = true
		n.sim.After(time.Second, func() { n.peer(to, n.net.Reachable(n.id, to)) })
	}
}

var errLost = errors.New("lost")

// collect performs the effects of the collective.
func (n *node) collect(es []collective.Effect) {
	for _, e := range es {
		switch {
		case e.Send != nil:
			size := n.cfg.Bytes / n.cfg.Chunks
			if e.Send.Frame.Kind == collective.FrameHeld {
				size = 300 // no numbers
			}
			n.send(e.Send.To, e.Send.Frame, size, &n.res.Bulk)
		case e.Receipt != nil:
			n.send(e.Receipt.To, e.Receipt, 64, &n.res.Bulk)
		case e.Have != nil:
			if n.marks.cut == 0 {
				n.marks.held = n.net.Now()
			}
			n.do(coord.Held{Have: *e.Have})
		case e.Done != nil:
			n.results[e.Done.Key] = e.Done.V
			n.marks.done = n.net.Now()
			n.do(coord.Reduced{Done: *e.Done})
		}
	}
	n.reportSoon()
}

func (n *node) send(to record.PeerID, msg any, size int, count *int64) {
	*count += int64(size)
	n.sim.Send(to, msg, size)
}

func (n *node) perform(ef coord.Effect) {
	switch e := ef.(type) {
	case coord.Send:
		n.send(e.To, control{e.Msg}, len(e.Msg.Record)+100, &n.res.Control)
	case coord.SendLog:
		n.send(e.To, logMsg{e.Payload}, len(e.Payload), &n.res.Control)
	case coord.Start:
		if n.marks.starts++; n.marks.starts == len(e.Plan.Members)/2+1 {
			n.marks.started = n.net.Now()
		}
		n.collect(n.col.Plan(e.Plan))
		n.work(e)
	case coord.Cut:
		if n.marks.cut == 0 {
			n.marks.cut = n.net.Now()
		}
		n.collect(n.col.Cut(e.Key, e.Set))
	case coord.Release:
		n.collect(n.col.Release(e.Key, e.Totals))
	case coord.Committed:
		n.collect(n.col.Commit(e.Key))
	case coord.Finish:
		n.step(e)
	case coord.Fetch:
		n.fetch(e)
	case coord.WriteCheckpoint:
		n.checkpoint(e)
	case coord.KeepCheckpoint:
		n.keep(e)
	case coord.Logged:
		n.logged(e)
	case coord.Report:
		n.reported(n, e.Round)
	case coord.Rollback:
		n.back++
		n.waiting = nil
		n.collect(n.col.Reset())
	case coord.End:
		if e.State == "left" {
			n.sim.After(0, func() { n.kill(n) })
		}
	}
}

func (n *node) logged(e coord.Logged) {
	o, err := coord.OpenEntry(keys{n.id, n.cache}, e.Entry)
	if err != nil {
		n.check.violated("an entry of the log cannot be opened: %w", err)
		return
	}
	if b, ok := o.Body.(*coord.CommitEntry); ok {
		n.check.committed(o, b)
	}
}

// work computes the sum over a plan's positions, one piece after the other.
func (n *node) work(e coord.Start) {
	if len(e.Work) == 0 {
		return
	}
	if n.st.round+1 != e.Plan.Round || !n.ready {
		n.waiting = append(n.waiting, e)
		return
	}
	rows := uint64(0)
	for _, x := range e.Work {
		rows += x.Len()
	}
	took := time.Duration(float64(rows) / n.rate * float64(time.Second))
	n.busy = max(n.busy, n.net.Now()) + took
	n.piece.rows, n.piece.took = rows, took
	back, round := n.back, n.st.round
	n.sim.After(n.busy-n.net.Now(), func() {
		n.res.Computed += int64(rows)
		n.res.busy += took
		if back != n.back || round != n.st.round {
			return
		}
		v, tokens := n.check.sum(e.Work)
		id := collective.PieceID{Round: e.Plan.Round, Attempt: e.Plan.Attempt, Member: n.id, Boot: n.sim.Boot()}
		n.collect(n.col.Local(collective.Mark{PieceID: id, Weight: tokens, Loss: float64(tokens)}, v))
	})
}

// step makes the weights after a committed round.
func (n *node) step(e coord.Finish) {
	v, ok := n.results[e.Key]
	if !ok || !n.ready || n.st.round+1 != e.Key.Round {
		n.check.violated("I4: %s is to finish round %d: holds the result %v, has state %d", n.id, e.Key.Round, ok, n.st.round)
		return
	}
	for k := range n.results {
		if k.Round <= e.Key.Round {
			delete(n.results, k)
		}
	}
	n.set(state{round: e.Key.Round, commit: e.Commit, w: step(n.st.w, v)})
	n.sim.After(5*time.Millisecond, func() {
		n.do(coord.Stepped{Round: e.Key.Round, Commit: e.Commit, Hash: n.st.hash})
	})
}

// set takes a new state and begins the work that waited for it.
func (n *node) set(st state) {
	st.hash, st.w = n.check.reached(n, st.commit, st.w)
	n.st, n.ready = st, true
	waiting := n.waiting
	n.waiting = nil
	for _, e := range waiting {
		if e.Plan.Round > st.round {
			n.work(e)
		}
	}
}

func (n *node) checkpoint(e coord.WriteCheckpoint) {
	if !n.ready || n.st.round != e.Round || n.st.commit != e.Commit {
		n.check.violated("%s is to write the checkpoint of round %d with the state of %d", n.id, e.Round, n.st.round)
		return
	}
	st := n.st
	n.sim.After(time.Second, func() {
		c := record.CID(slices.Concat(st.hash[:], st.commit.Bytes()))
		n.cps[c] = st
		n.do(coord.Stored{Round: st.round, Manifest: c})
	})
}

func (n *node) keep(e coord.KeepCheckpoint) {
	for c, st := range n.cps {
		if st.round < e.DropBefore {
			delete(n.cps, c)
		}
	}
}
