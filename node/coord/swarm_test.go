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
	t           testing.TB
	net         *simnet.Net
	g           Genesis
	nodes       []*node
	want        map[string][][]float32        // weights after each round, by the order of batches
	poison      func(p uint64) bool           // positions whose gradient is not finite; nil: none
	log         map[string]map[uint64]cid.Cid // generation → round → commit (I1)
	done        map[uint64]bool               // rounds committed in any generation
	rows        time.Duration                 // per row and node
	lazy        bool                          // owners defer reports of less than everything
	step        time.Duration
	hear        func(*run, Effect)   // sees every effect
	tap, tapLog func(*record.Signed) // see every control message and entry
	wrong       string               // the first violation
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

	uplink  float64 // announced, bytes per second
	relayed bool
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
	began     time.Duration
	m         *Machine
	col       *collective.Machine
	st        state
	ready     bool
	results   map[collective.Key][]float32
	fetch     int // number of the Fetch under way
	donors    []record.PeerID
	asked     Fetch
	ended     string
	notes     []string
	rounds    []RoundReport
	back      []uint64
	flip      bool // its weights go wrong with the next step
	reporting bool
	failing   map[record.PeerID]time.Duration // since when chunks do not get through
	garble    bool                            // its results are different garbage for everyone
	unstage   bool                            // it has dropped the next result that is committed
	spoil     bool                            // its work is not finite
	waiting   []Start                         // work for which the state is not there yet
	owing     []collective.Step               // the same for steps of an owner
	flow      *flowRun                        // its pipe; nil: none
	hung      bool                            // its device does nothing
	early     []wireFlow                      // frames of pipes it does not know yet
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
	lazy    bool
	members []float64 // rates; missing: 1
	chunks  int       // at most 5, which 0 is
	zero    bool      // owners step
	flow    bool      // a pipeline of three stages
}

func newSwarm(t testing.TB, seed uint64, o options) *swarm {
	if o.net == (simnet.Config{}) {
		o.net = simnet.Config{Latency: 2 * time.Millisecond, Jitter: time.Millisecond, Detect: 20 * time.Millisecond}
	}
	if o.perRow == 0 {
		o.perRow = 100 * time.Millisecond
	}
	s := &swarm{t: t, net: simnet.New(seed, o.net), log: map[string]map[uint64]cid.Cid{}, done: map[uint64]bool{},
		lazy: o.lazy, rows: o.perRow, step: 5 * time.Millisecond}
	s.g = Genesis{
		Job: record.CID([]byte("job")), Submitter: s.name(0, o.keys), Rows: 17,
		Batch: o.batch, MicroBatch: 1, Steps: o.steps, Samples: o.steps*o.batch - o.batch/2, MinPeers: o.min, CheckpointEvery: o.every,
		Chunks: []collective.Chunk{{Lo: 0, Hi: 3}, {Lo: 3, Hi: 5}, {Lo: 5, Hi: 8, Unit: 1}, {Lo: 8, Hi: 9, Unit: 1}, {Lo: 9, Hi: 12, Unit: 2}},
	}
	s.g.OwnersStep = o.zero
	if o.chunks > 0 {
		s.g.Chunks = s.g.Chunks[:o.chunks]
	}
	if o.flow {
		s.g.OwnersStep, s.g.Pipeline = true, s.pipeline()
	}
	s.want = map[string][][]float32{}
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

// expect is the weights after a round, as m has the order of batches. A batch that is not finite changes nothing.
func (s *swarm) expect(m *Machine, round uint64) []float32 {
	dim := s.g.Chunks[len(s.g.Chunks)-1].Hi
	order := fmt.Sprint(m.job.moves)
	want := s.want[order]
	if want == nil {
		want = [][]float32{make([]float32, dim)}
	}
	for r := uint64(len(want)); r <= round; r++ {
		sum, tokens := s.sum([]shard.Range{m.batch(r)})
		w := slices.Clone(want[r-1])
		for i := range w {
			if !math.IsNaN(float64(sum[0])) {
				w[i] += float32(float64(sum[i]) / float64(tokens))
			}
		}
		want = append(want, w)
	}
	s.want[order] = want
	return want[round]
}

func (s *swarm) sum(rs []shard.Range) (v []float32, tokens int64) {
	v = make([]float32, s.g.Chunks[len(s.g.Chunks)-1].Hi)
	for _, r := range rs {
		for p := r.Lo; p < r.Hi; p++ {
			g, n := s.grad(p)
			tokens += n
			if s.poison != nil && s.poison(p) {
				v[0] = float32(math.NaN())
			}
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

// logged checks I1 and I2 on every entry that counts somewhere.
func (s *swarm) logged(r *run, e Logged) {
	if s.tapLog != nil {
		s.tapLog(e.Entry)
	}
	o, err := OpenEntry(plainKeys{}, e.Entry)
	if err != nil {
		s.violate("entry in the log cannot be opened: %v", err)
		return
	}
	s.net.Logf("%s logs %s g%d r%d a%d %s", r.id, o.Header.Context, o.Header.Generation, o.Header.Round, attemptOf(o.Header.Attempt), short(o.CID))
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
	stages := map[int][]shard.Range{}
	for _, n := range c.Counted {
		stages[n.Stage] = append(stages[n.Stage], n.Ranges...)
	}
	if s.g.Pipeline != nil && (len(stages) != flowStages || stages[0] != nil) {
		s.violate("I2: round %d counts in %d stages", o.Header.Round, len(stages))
	}
	for stage, rs := range stages {
		if !exactly(rs, r.m.batch(o.Header.Round)) {
			s.violate("I2: round %d counts %v in stage %d", o.Header.Round, rs, stage)
		}
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

// unitsOf is the hash per unit of a reduced vector.
func (s *swarm) unitsOf(v []float32) []collective.Hash { return collective.Units(s.g.Chunks, v) }
