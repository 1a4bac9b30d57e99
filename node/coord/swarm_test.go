package coord

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/simnet"
	"github.com/seed-7b27c88a/shoal/shard"
)

// swarm is a simulated job: nodes with real coord, replog and collective machines on a simulated network, and a trainer
// whose gradient is a pure function of the position.
//
// All gradients are small integers, so sums are exact in any order and the weights after every round are known
// beforehand: a member that stepped on a wrong set of positions, on one position twice, or on other bits is found at once.
type swarm struct {
	t     testing.TB
	net   *simnet.Net
	g     Genesis
	nodes []*node
	want  [][]float32                   // weights after each round
	log   map[string]map[uint64]cid.Cid // generation → round → commit (I1)
	done  map[uint64]bool               // rounds committed in any generation
	rows  time.Duration                 // per row and node
	step  time.Duration
	wrong string // the first violation
}

// node is one machine of the swarm; its run may end and begin again, its disk stays.
type node struct {
	s    *swarm
	id   record.PeerID
	key  ed25519.PrivateKey
	sim  *simnet.Node
	rate float64 // rows per second, announced and true
	disk disk
	run  *run
}

type disk struct {
	spine []*record.Signed
	cps   map[cid.Cid]state
}

// state is what a trainer has.
type state struct {
	round  uint64
	commit cid.Cid
	w      []float32
}

// run is a process.
type run struct {
	*node
	began   time.Duration
	m       *Machine
	col     *collective.Machine
	st      state
	ready   bool
	results map[collective.Key][]float32
	fetch   int // number of the Fetch under way
	donors  []record.PeerID
	asked   Fetch
	ended   string
	notes   []string
	rounds  []RoundReport
	back    []uint64
	flip    bool    // its weights go wrong with the next step
	garble  bool    // its results are different garbage for everyone
	waiting []Start // work for which the state is not there yet
}

// Messages on the simulated network.
type (
	wireCtl   struct{ msg *record.Signed }
	wireLog   struct{ payload []byte }
	wireFrame struct{ f *collective.Frame }
	wireRcpt  struct{ r *collective.Receipt }
	wireAsk   struct {
		n        int
		round    uint64
		manifest cid.Cid
	}
	wireState struct {
		n  int
		st *state
	}
)

func (w wireCtl) String() string {
	rec, _, err := plainKeys{}.Open(w.msg)
	if err != nil {
		return err.Error()
	}
	h := rec.Header
	return fmt.Sprintf("%s g%d r%d a%d", strings.TrimPrefix(h.Context, "shoal/"), h.Generation, h.Round, h.Attempt)
}
func (w wireLog) String() string { return fmt.Sprintf("raft %d B", len(w.payload)) }
func (w wireFrame) String() string {
	return fmt.Sprintf("frame kind %d r%d a%d chunk %d", w.f.Kind, w.f.Key.Round, w.f.Key.Attempt, w.f.Chunk)
}
func (w wireRcpt) String() string  { return fmt.Sprintf("receipt %v", w.r.Err) }
func (w wireAsk) String() string   { return fmt.Sprintf("ask state %d", w.round) }
func (w wireState) String() string { return fmt.Sprintf("state %v", w.st != nil) }

// plainKeys signs with nothing, to spend the time of a simulation on the protocol.
type plainKeys struct{ id record.PeerID }

func (k plainKeys) Sign(h record.Header, body any) (*record.Signed, cid.Cid, error) {
	b, err := record.Encode(body)
	if err != nil {
		return nil, cid.Undef, err
	}
	rec, err := record.Encode(record.Record{Header: h, Body: b})
	if err != nil || len(rec) > record.MaxRecord {
		return nil, cid.Undef, fmt.Errorf("%d bytes, %w", len(rec), err)
	}
	return &record.Signed{Record: rec, Signer: k.id, Sig: []byte{1}}, record.CID(rec), nil
}

func (k plainKeys) Open(s *record.Signed) (*record.Record, cid.Cid, error) {
	var r record.Record
	if err := record.Decode(s.Record, &r); err != nil {
		return nil, cid.Undef, err
	}
	return &r, record.CID(s.Record), nil
}

// options of a simulated swarm.
type options struct {
	nodes   int
	steps   uint64
	batch   uint64
	min     int
	every   uint64
	net     simnet.Config
	keys    bool // sign for real
	perRow  time.Duration
	members []float64 // rates; missing: 1
}

func newSwarm(t testing.TB, seed uint64, o options) *swarm {
	if o.net == (simnet.Config{}) {
		o.net = simnet.Config{Latency: 2 * time.Millisecond, Jitter: time.Millisecond, Detect: 20 * time.Millisecond}
	}
	if o.perRow == 0 {
		o.perRow = 100 * time.Millisecond
	}
	s := &swarm{t: t, net: simnet.New(seed, o.net), log: map[string]map[uint64]cid.Cid{}, done: map[uint64]bool{},
		rows: o.perRow, step: 5 * time.Millisecond}
	s.g = Genesis{
		Job: record.CID([]byte("job")), Submitter: s.name(0, o.keys), Rows: 17,
		Batch: o.batch, MicroBatch: 1, Steps: o.steps, Samples: o.steps*o.batch - o.batch/2, MinPeers: o.min, CheckpointEvery: o.every,
		Chunks: []collective.Chunk{{Lo: 0, Hi: 3}, {Lo: 3, Hi: 5}, {Lo: 5, Hi: 8, Unit: 1}, {Lo: 8, Hi: 9, Unit: 1}, {Lo: 9, Hi: 12, Unit: 2}},
	}
	s.expect()
	for i := range o.nodes {
		n := &node{s: s, id: s.name(i, o.keys), rate: 1}
		if o.keys {
			n.key = nodeKey(i)
		}
		if i < len(o.members) {
			n.rate = o.members[i]
		}
		n.disk.cps = map[cid.Cid]state{}
		s.nodes = append(s.nodes, n)
	}
	return s
}

func nodeKey(i int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(append(make([]byte, 31), byte(i+1)))
}

func (s *swarm) name(i int, real bool) record.PeerID {
	if real {
		return record.IDOf(nodeKey(i).Public().(ed25519.PublicKey))
	}
	return record.PeerID(fmt.Sprintf("n%d", i))
}

// grad is position p's gradient (small integers) and its target tokens.
func (s *swarm) grad(p uint64) (v []float32, tokens int64) {
	dim := s.g.Chunks[len(s.g.Chunks)-1].Hi
	v = make([]float32, dim)
	for i := range v {
		v[i] = float32((p*31+uint64(i)*17+p*p)%23) - 11
	}
	return v, int64(1 + p%3)
}

// expect computes the weights after each round.
func (s *swarm) expect() {
	dim := s.g.Chunks[len(s.g.Chunks)-1].Hi
	s.want = [][]float32{make([]float32, dim)}
	for r := uint64(1); r <= s.g.Steps; r++ {
		sum, tokens := s.sum([]shard.Range{s.g.batch(r)})
		w := slices.Clone(s.want[r-1])
		for i := range w {
			w[i] += float32(float64(sum[i]) / float64(tokens))
		}
		s.want = append(s.want, w)
	}
}

func (s *swarm) sum(rs []shard.Range) (v []float32, tokens int64) {
	v = make([]float32, s.g.Chunks[len(s.g.Chunks)-1].Hi)
	for _, r := range rs {
		for p := r.Lo; p < r.Hi; p++ {
			g, n := s.grad(p)
			tokens += n
			for i := range v {
				v[i] += g[i]
			}
		}
	}
	return v, tokens
}

func hashState(w []float32) collective.Hash {
	b := make([]byte, 0, 4*len(w))
	for _, x := range w {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return sha256.Sum256(b)
}

// violate notes the first violation of an invariant.
func (s *swarm) violate(format string, args ...any) {
	if s.wrong == "" {
		s.wrong = fmt.Sprintf(format, args...)
		s.net.Logf("VIOLATION %s", s.wrong)
	}
}

// start begins a run of node i.
func (s *swarm) start(i int) *run {
	n := s.nodes[i]
	r := &run{node: n, began: s.net.Now(), results: map[collective.Key][]float32{}}
	n.run = r
	n.sim = s.net.Node(n.id, simnet.Handler{Receive: r.receive, Peer: r.peer, Lost: r.lost})
	var signer Signer = plainKeys{n.id}
	if n.key != nil {
		signer = Keys{n.id, n.key}
	}
	self := Self{ID: n.id, Boot: n.sim.Boot(), Signer: signer}
	m, err := New(s.g, self, Capability{RowsPerSec: n.rate / s.rows.Seconds(), Versions: []int{1}}, n.disk.spine)
	if err != nil {
		s.t.Fatal(err)
	}
	r.m, r.col = m, collective.New(collective.Member{ID: n.id, Boot: self.Boot})
	for _, o := range s.nodes {
		if o != n && o.sim != nil {
			s.net.Connect(n.id, o.id)
		}
	}
	r.tick()
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
	case wireRcpt:
		r.collect(r.col.Sent(from, w.r.Frame, w.r.Err))
	case wireAsk:
		r.answer(from, w)
	case wireState:
		r.take(w)
	}
}

func (r *run) lost(to record.PeerID, msg any) {
	if w, ok := msg.(wireFrame); ok {
		r.collect(r.col.Sent(to, w.f, fmt.Errorf("lost")))
		r.sim.After(200*time.Millisecond, func() { r.collect(r.col.Retry(to)) })
	}
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
	switch e := ef.(type) {
	case Send:
		r.sim.Send(e.To, wireCtl{e.Msg}, len(e.Msg.Record))
	case SendLog:
		r.sim.Send(e.To, wireLog{e.Payload}, len(e.Payload))
	case Start:
		r.collect(r.col.Plan(e.Plan))
		r.work(e)
	case Cut:
		r.collect(r.col.Cut(e.Key, e.Set))
	case Release:
		r.collect(r.col.Release(e.Key, e.Totals))
	case Committed:
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
		r.waiting = nil
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
		id := collective.PieceID{Round: e.Plan.Round, Attempt: e.Plan.Attempt, Member: r.id, Boot: r.sim.Boot()}
		r.collect(r.col.Local(collective.Mark{PieceID: id, Weight: tokens, Loss: float64(tokens)}, v))
	})
}

// finish steps the trainer.
func (r *run) finish(e Finish) {
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
	if !r.flip && !slices.Equal(st.w, r.s.want[st.round]) {
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
				r.set(state{w: slices.Clone(r.s.want[0])})
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

// logged checks I1 and I2 on every entry that counts somewhere.
func (s *swarm) logged(r *run, e Logged) {
	o, err := OpenEntry(plainKeys{}, e.Entry)
	if err != nil {
		s.violate("entry in the log cannot be opened: %v", err)
		return
	}
	s.net.Logf("%s logs %s g%d r%d a%d %s", r.id, o.Header.Context, o.Header.Generation, o.Header.Round, o.Header.Attempt, short(o.CID))
	c, ok := o.Body.(*CommitEntry)
	if !ok {
		return
	}
	gen := fmt.Sprint(o.Header.Generation, o.Header.Reset)
	if s.log[gen] == nil {
		s.log[gen] = map[uint64]cid.Cid{}
	}
	if old, ok := s.log[gen][o.Header.Round]; ok && old != o.CID {
		s.violate("I1: two commits of round %d in generation %d", o.Header.Round, o.Header.Generation)
	}
	s.log[gen][o.Header.Round] = o.CID
	s.done[o.Header.Round] = true
	var rs []shard.Range
	for _, n := range c.Counted {
		rs = append(rs, n.Ranges...)
	}
	if !exactly(rs, s.g.batch(o.Header.Round)) {
		s.violate("I2: round %d counts %v", o.Header.Round, rs)
	}
}

func short(c cid.Cid) string { s := c.String(); return s[len(s)-6:] }

// until runs until done, or fails after limit of virtual time.
func (s *swarm) until(what string, limit time.Duration, done func() bool) {
	s.t.Helper()
	end := s.net.Now() + limit
	for !done() {
		if s.wrong != "" {
			s.fail(s.wrong)
		}
		if s.net.Now() > end || !s.net.Step() {
			s.fail("never: " + what)
		}
	}
	if s.wrong != "" {
		s.fail(s.wrong)
	}
}

func (s *swarm) fail(why string) {
	s.t.Helper()
	var b bytes.Buffer
	s.net.Dump(&b)
	for i, n := range s.nodes {
		if n.run != nil {
			fmt.Fprintf(&b, "node %d %s alive %v: %+v\n", i, n.id, n.sim.Alive(), n.run.m.Status())
		}
	}
	s.t.Fatalf("%s\n%s", why, b.String())
}

// living are the runs that go on.
func (s *swarm) living() (out []*run) {
	for _, n := range s.nodes {
		if n.sim != nil && n.sim.Alive() {
			out = append(out, n.run)
		}
	}
	return out
}

func (s *swarm) allEnded() bool {
	for _, r := range s.living() {
		if r.ended == "" {
			return false
		}
	}
	return true
}

func (s *swarm) round() (r uint64) {
	for _, n := range s.living() {
		r = max(r, n.m.job.round)
	}
	return r
}

func (s *swarm) leader() *run {
	for _, r := range s.living() {
		if r.m.lead != nil {
			return r
		}
	}
	return nil
}

func (s *swarm) dump() string {
	var b bytes.Buffer
	s.net.Dump(&b)
	return b.String()
}
