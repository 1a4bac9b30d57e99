package coord

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/simnet"
)

// start begins a run of node i.
func (s *swarm) start(i int) *run {
	n := s.nodes[i]
	r := &run{node: n, began: s.net.Now(), results: map[collective.Key][]float32{}, failing: map[record.PeerID]time.Duration{}}
	n.run = r
	n.sim = s.net.Node(n.id, simnet.Handler{Receive: r.receive, Peer: r.peer, Lost: r.lost})
	var signer Signer = plainKeys{n.id}
	if n.key != nil {
		signer = Keys{n.id, n.key}
	}
	self := Self{ID: n.id, Boot: n.sim.Boot(), Signer: signer}
	m, err := New(s.g, self, Capability{RowsPerSec: n.rate / s.rows.Seconds(), BytesPerSec: n.uplink, Relayed: n.relayed, Versions: []int{1}}, n.disk.spine)
	if err != nil {
		s.t.Fatal(err)
	}
	r.m, r.col = m, collective.New(collective.Member{ID: n.id, Boot: self.Boot})
	if s.lazy {
		r.col.DeferPartial()
	}
	for _, o := range s.nodes {
		if o != n && o.sim != nil {
			s.net.Connect(n.id, o.id)
		}
	}
	r.tick()
	r.tellUnreached()
	return r
}

func (s *swarm) startAll() {
	for i := range s.nodes {
		s.start(i)
	}
}

func (r *run) tick() {
	r.do(Tick{r.s.net.Now() - r.began})
	r.sim.After(TickEvery, r.tick)
}

func (r *run) do(e Event) {
	for _, ef := range r.m.Step(e) {
		r.perform(ef)
	}
}

func (r *run) peer(id record.PeerID, up bool) {
	r.do(Peer{id, up})
	if up {
		delete(r.failing, id)
		r.collect(r.col.Retry(id))
	}
}

func (r *run) receive(from record.PeerID, msg any) {
	switch w := msg.(type) {
	case wireCtl:
		r.do(Message{from, w.msg})
	case wireLog:
		r.do(LogMessage{from, w.payload})
	case wireFrame:
		r.collect(r.col.Frame(from, w.f))
		r.reportSoon()
	case wireRcpt:
		delete(r.failing, from)
		r.collect(r.col.Sent(from, w.r.Frame, w.r.Err))
	case wireFlow:
		r.flowFrame(w)
	case wireAsk:
		r.answer(from, w)
	case wireState:
		r.take(w)
	}
}

// reportSoon lets the collective say what it holds while more is still on its way.
func (r *run) reportSoon() {
	if r.s.lazy && !r.reporting {
		r.reporting = true
		r.sim.After(50*time.Millisecond, func() {
			r.reporting = false
			r.collect(r.col.Report())
		})
	}
}

func (r *run) lost(to record.PeerID, msg any) {
	if w, ok := msg.(wireFlow); ok {
		r.flowFailed(to, w)
	}
	if w, ok := msg.(wireFrame); ok {
		if _, ok := r.failing[to]; !ok {
			r.failing[to] = r.s.net.Now()
		}
		r.collect(r.col.Sent(to, w.f, fmt.Errorf("lost")))
		r.sim.After(200*time.Millisecond, func() { r.collect(r.col.Retry(to)) })
	}
}

// tellUnreached says to whom chunks have not got through for a second.
func (r *run) tellUnreached() {
	var e Unreached
	for id, since := range r.failing {
		if r.s.net.Now() >= since+time.Second {
			e.IDs = append(e.IDs, id)
		}
	}
	r.do(e)
	r.sim.After(500*time.Millisecond, r.tellUnreached)
}

// collect performs the effects of the collective.
func (r *run) collect(es []collective.Effect) {
	for _, e := range es {
		switch {
		case e.Send != nil:
			r.sim.Send(e.Send.To, wireFrame{r.maybeGarble(e.Send.Frame)}, 64)
		case e.Receipt != nil:
			r.sim.Send(e.Receipt.To, wireRcpt{e.Receipt}, 64)
		case e.Have != nil:
			r.do(Held{*e.Have})
		case e.Done != nil:
			r.results[e.Done.Key] = e.Done.V
			r.do(Reduced{*e.Done})
		case e.Step != nil:
			st := *e.Step
			r.sim.After(r.s.step, func() { r.stepOwn(st) })
		}
	}
}

func (r *run) maybeGarble(f *collective.Frame) *collective.Frame {
	if !r.garble || f.Kind != collective.FrameResult {
		return f
	}
	g := *f
	g.Data = slices.Clone(f.Data)
	g.Data[0] = r.s.net.Rand().Float32()
	return &g
}

func (r *run) perform(ef Effect) {
	if r.s.hear != nil {
		r.s.hear(r, ef)
	}
	switch e := ef.(type) {
	case Send:
		r.acknowledges(e.Msg)
		if r.s.tap != nil {
			r.s.tap(e.Msg)
		}
		r.sim.Send(e.To, wireCtl{e.Msg}, len(e.Msg.Record))
	case SendLog:
		r.sim.Send(e.To, wireLog{e.Payload}, len(e.Payload))
	case Start:
		r.collect(r.col.Plan(e.Plan))
		r.flowStart(e.Flow)
		r.work(e)
	case Seal:
		r.flowSeal(e)
	case Cut:
		r.collect(r.col.Cut(e.Key, e.Set))
	case Release:
		r.collect(r.col.Release(e.Key, e.Totals))
	case Committed:
		r.flow = nil
		r.collect(r.col.Commit(e.Key))
	case Finish:
		r.finish(e)
	case Fetch:
		r.fetchState(e)
	case WriteCheckpoint:
		r.checkpoint(e)
	case KeepCheckpoint:
		r.keep(e)
	case Save:
		r.disk.spine = e.Spine
	case Logged:
		r.s.logged(r, e)
	case Rollback:
		r.back = append(r.back, e.Round)
		r.waiting, r.owing, r.flow = nil, nil, nil
		r.collect(r.col.Reset())
	case Report:
		r.rounds = append(r.rounds, e.Round)
	case End:
		r.ended = e.State
		r.s.net.Logf("%s ends: %s %s", r.id, e.State, e.Why)
	case Note:
		r.notes = append(r.notes, e.Text)
		r.s.net.Logf("%s notes: %s", r.id, e.Text)
	}
}

// work computes the gradient of a plan's positions, which takes its time.
func (r *run) work(e Start) {
	if len(e.Work) == 0 {
		return
	}
	n := uint64(0)
	for _, x := range e.Work {
		n += x.Len()
	}
	took := time.Duration(float64(n) * float64(r.s.rows) / r.rate)
	if r.st.round+1 != e.Plan.Round || !r.ready {
		r.waiting = append(r.waiting, e)
		return
	}
	epoch := len(r.back)
	r.sim.After(took, func() {
		if epoch != len(r.back) {
			return // a Rollback came
		}
		v, tokens := r.s.sum(e.Work)
		if r.spoil {
			v[len(v)-1] = float32(math.Inf(1))
		}
		id := collective.PieceID{Round: e.Plan.Round, Attempt: e.Plan.Attempt, Member: r.id, Boot: r.sim.Boot()}
		r.collect(r.col.Local(collective.Mark{PieceID: id, Weight: tokens, Loss: float64(tokens)}, v))
	})
}

// stepOwn is an owner's optimizer: it adds the mean to the weights of its chunks.
func (r *run) stepOwn(st collective.Step) {
	if !r.ready || r.st.round+1 != st.Round {
		r.owing = append(r.owing, st)
		return
	}
	var own []collective.Mean
	for _, x := range st.Means {
		v := slices.Clone(r.st.w[r.s.g.Chunks[x.Chunk].Lo:r.s.g.Chunks[x.Chunk].Hi])
		for i := range v {
			v[i] += x.V[i]
		}
		own = append(own, collective.Mean{Chunk: x.Chunk, V: v})
	}
	r.collect(r.col.Stepped(st.Key, own))
}

// finish steps the trainer.
func (r *run) finish(e Finish) {
	if r.unstage {
		r.unstage = false
		r.sim.After(time.Millisecond, func() { r.do(Unstaged{Commit: e.Commit}) })
		return
	}
	v, ok := r.results[e.Key]
	if !ok || !r.ready || r.st.round+1 != e.Key.Round {
		r.s.violate("%s is to finish round %d: has result %v, state %d", r.id, e.Key.Round, ok, r.st.round)
		return
	}
	for k := range r.results {
		if k.Round <= e.Key.Round {
			delete(r.results, k)
		}
	}
	r.sim.After(r.s.step, func() {
		w := slices.Clone(r.st.w)
		for i := range w {
			if r.s.g.OwnersStep && e.Totals.Weight > 0 && !e.Totals.NonFinite {
				w[i] = 0
			}
			w[i] += v[i]
		}
		if r.flip {
			w[0]++
		}
		r.set(state{e.Key.Round, e.Commit, w})
		r.do(Stepped{Round: e.Key.Round, Commit: e.Commit, Hash: hashState(w)})
	})
}

// set checks a new state against what it has to be (I2, I3, and that all have the same bits).
func (r *run) set(st state) {
	r.st, r.ready = st, true
	waiting := r.waiting
	r.waiting = nil
	for _, e := range waiting {
		if e.Plan.Round > st.round {
			r.work(e)
		}
	}
	owing := r.owing
	r.owing = nil
	for _, e := range owing {
		if e.Round > st.round {
			r.stepOwn(e)
		}
	}
	r.flowTurn()
	if !r.flip && !slices.Equal(st.w, r.s.expect(r.m, st.round)) {
		r.s.violate("%s has wrong weights after round %d", r.id, st.round)
	}
}

func (r *run) fetchState(e Fetch) {
	r.fetch++
	r.ready = false
	r.asked, r.donors = e, e.Donors
	n := r.fetch
	if e.Round == 0 {
		r.sim.After(10*time.Millisecond, func() {
			if n == r.fetch {
				r.set(state{w: slices.Clone(r.s.expect(r.m, 0))})
				r.do(Restored{Hash: hashState(r.st.w)})
			}
		})
		return
	}
	if st, ok := r.disk.cps[e.Manifest]; ok && e.Manifest.Defined() {
		r.sim.After(10*time.Millisecond, func() { r.take(wireState{n, &st}) })
		return
	}
	r.nextDonor(n)
}

// nextDonor asks one donor after the other.
func (r *run) nextDonor(n int) {
	if n != r.fetch {
		return
	}
	if len(r.donors) == 0 {
		r.fetch++
		r.do(Unfetched{Round: r.asked.Round, Why: "no donor has it"})
		return
	}
	d := r.donors[0]
	r.donors = r.donors[1:]
	r.sim.Send(d, wireAsk{n, r.asked.Round, r.asked.Manifest}, 64)
	left := len(r.donors)
	r.sim.After(time.Second, func() {
		if n == r.fetch && len(r.donors) == left {
			r.nextDonor(n)
		}
	})
}

func (r *run) answer(from record.PeerID, w wireAsk) {
	out := wireState{n: w.n}
	if st, ok := r.disk.cps[w.manifest]; ok && w.manifest.Defined() {
		out.st = &st
	} else if r.ready && r.st.round >= w.round && r.ended != "failed" {
		st := r.st
		out.st = &st
	}
	r.sim.Send(from, out, 64)
}

func (r *run) take(w wireState) {
	if w.n != r.fetch {
		return
	}
	if w.st == nil {
		r.nextDonor(w.n)
		return
	}
	r.fetch++
	r.set(*w.st)
	r.do(Restored{Round: w.st.round, Commit: w.st.commit, Hash: hashState(w.st.w)})
}

func (r *run) checkpoint(e WriteCheckpoint) {
	if !r.ready || r.st.round != e.Round || r.st.commit != e.Commit {
		r.s.violate("%s is to write the checkpoint of round %d with the state of %d", r.id, e.Round, r.st.round)
		return
	}
	st := r.st
	r.sim.After(20*time.Millisecond, func() {
		c := manifest(st)
		r.disk.cps[c] = st
		r.do(Stored{Round: st.round, Manifest: c})
	})
}

func manifest(st state) cid.Cid {
	h := hashState(st.w)
	return record.CID(append(h[:], st.commit.Bytes()...))
}

// keep pulls a settled checkpoint from its holders.
func (r *run) keep(e KeepCheckpoint) {
	for c, st := range r.disk.cps {
		if st.round < e.DropBefore {
			delete(r.disk.cps, c)
		}
	}
	for _, id := range e.Holders {
		for _, o := range r.s.nodes {
			if st, ok := o.disk.cps[e.Manifest]; o.id == id && ok && r.s.net.Reachable(r.id, id) {
				r.disk.cps[e.Manifest] = st
			}
		}
	}
}

// acknowledges checks I4: whoever acknowledges a result holds bytes with its hashes.
func (r *run) acknowledges(msg *record.Signed) {
	if !bytes.Contains(msg.Record, []byte(contextAck)) {
		return
	}
	o, err := openMessage(plainKeys{}, msg)
	if err != nil {
		return
	}
	a, ok := o.body.(*ackMsg)
	if !ok {
		return
	}
	for k, v := range r.results {
		if k.Plan == a.Plan && slices.Equal(r.s.unitsOf(v), a.Units) {
			return
		}
	}
	r.s.violate("I4: %s acknowledges round %d and does not hold it", r.id, o.header.Round)
}
