package collective

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// testSwarm runs real machines against a leader that follows the rules of a round, with messages delivered in any
// order, twice, or not at all. Everything comes from one seed.
type testSwarm struct {
	t       *testing.T
	rng     *rand.Rand
	seed    uint64
	nodes   []*testNode
	chunks  []Chunk
	job     cid.Cid
	codec   exact.Codec
	round   uint64
	attempt uint32
	plan    *Plan
	flying  []flight
	haves   map[record.PeerID]*Have
	cut     []Mark
	totals  *Totals
	posns   map[PieceID][]int
	grads   map[int][]float32
	inherit [][]record.PeerID // owners of the next plan by chunk; nil: any
	kept    int               // cuts that outlived a death
	steps   int
	zero    bool  // owners step
	weights int   // chunks that have results then
	stages  int   // of a pipeline; 0: none, see stages_test.go
	batch   []int // its round's positions
}

type testNode struct {
	m     *Machine
	self  Member
	alive bool
	done  map[Key]*Done
	todo  []func() []Effect // events of the log and the trainer, in order
}

type flight struct {
	from, to record.PeerID
	frame    *Frame
	receipt  *Receipt
}

func testCID(parts ...any) cid.Cid { return record.CID(fmt.Append(nil, parts...)) }

func newTestSwarm(t *testing.T, seed uint64, n, chunks int) *testSwarm {
	s := &testSwarm{t: t, seed: seed, codec: exact.Codec(seed % 3), zero: seed%5 > 2, weights: max(chunks-int(seed%4), 1), rng: rand.New(rand.NewPCG(seed, 1)), job: testCID("job"), posns: map[PieceID][]int{}, grads: map[int][]float32{}}
	at := 0
	for c := range chunks {
		size := 1 + s.rng.IntN(40)
		s.chunks = append(s.chunks, Chunk{Lo: at, Hi: at + size, Unit: c / 2})
		at += size
	}
	for i := range n {
		self := Member{ID: record.PeerID(fmt.Sprintf("peer%d", i)), Boot: uint64(100 + i)}
		s.nodes = append(s.nodes, &testNode{self: self, m: New(self), alive: true, done: map[Key]*Done{}})
	}
	return s
}

// grad is the gradient of one position: numbers of very different size, so that the order of a sum shows in its bits.
func (s *testSwarm) grad(pos int) []float32 {
	if v := s.grads[pos]; v != nil {
		return v
	}
	rng := rand.New(rand.NewPCG(uint64(pos), 7))
	v := make([]float32, s.chunks[len(s.chunks)-1].Hi)
	for i := range v {
		v[i] = float32(rng.NormFloat64() * math.Pow(10, float64(rng.IntN(8)-4)))
	}
	s.grads[pos] = v
	return v
}

func (s *testSwarm) piece(id PieceID) (Mark, []float32) {
	v := make([]float32, s.chunks[len(s.chunks)-1].Hi)
	for _, p := range s.posns[id] {
		exact.Add(v, s.grad(p))
	}
	if s.stages > 0 {
		return s.stagePiece(id, v)
	}
	return Mark{PieceID: id, Weight: int64(len(s.posns[id])), Loss: float64(len(s.posns[id])) / 3}, v
}

// newPlan lists the pieces that count and gives the positions nobody alive holds to the living.
func (s *testSwarm) newPlan(positions []int, keep []PieceID) {
	s.attempt++
	p := &Plan{Key: Key{Job: s.job, Round: s.round, Attempt: s.attempt, Plan: testCID("plan", s.round, s.attempt)}, Codec: s.codec, Chunks: s.chunks, OwnersStep: s.zero, Weights: s.weights}
	for _, n := range s.nodes {
		if n.alive {
			p.Members = append(p.Members, n.self)
		}
	}
	for c := range s.chunks {
		p.Owners = append(p.Owners, s.chooseOwners(p, c))
	}
	p.Pieces = append(p.Pieces, keep...)
	s.seat(p)
	for i, m := range p.Members {
		id := PieceID{Round: s.round, Attempt: s.attempt, Member: m.ID, Boot: m.Boot}
		for j, pos := range positions {
			if s.works(p, i, j) {
				s.posns[id] = append(s.posns[id], pos)
			}
		}
		if len(s.posns[id]) > 0 {
			p.Pieces = append(p.Pieces, id)
		}
	}
	slices.SortFunc(p.Pieces, func(a, b PieceID) int { // member order, then attempt order
		if a.Member != b.Member {
			return compare(a.Member, b.Member)
		}
		return int(a.Attempt) - int(b.Attempt)
	})
	if err := p.Validate(); err != nil {
		s.t.Fatalf("seed %d: %v", s.seed, err)
	}
	s.plan, s.haves, s.cut, s.totals = p, map[record.PeerID]*Have{}, nil, nil
	for _, n := range s.nodes {
		n.todo = append(n.todo, func() []Effect { return n.m.Plan(p) })
		id := PieceID{Round: s.round, Attempt: s.attempt, Member: n.self.ID, Boot: n.self.Boot}
		if slices.Contains(p.Pieces, id) {
			n.todo = append(n.todo, func() []Effect { return n.m.Local(s.piece(id)) })
		}
	}
}

func (s *testSwarm) chooseOwners(p *Plan, c int) (os []int) {
	if s.inherit != nil {
		for _, id := range s.inherit[c] {
			os = append(os, slices.IndexFunc(p.Members, func(m Member) bool { return m.ID == id }))
		}
		return os
	}
	first := c + s.rng.IntN(2)
	for i := range min(3, len(p.Members)) {
		os = append(os, (first+i)%len(p.Members))
	}
	return os
}

func compare(a, b record.PeerID) int {
	if a < b {
		return -1
	}
	return 1
}

func (s *testSwarm) node(id record.PeerID) *testNode {
	for _, n := range s.nodes {
		if n.self.ID == id {
			return n
		}
	}
	return nil
}

func (s *testSwarm) perform(n *testNode, out []Effect) {
	for _, e := range out {
		switch {
		case e.Send != nil:
			s.flying = append(s.flying, flight{from: n.self.ID, to: e.Send.To, frame: e.Send.Frame})
		case e.Receipt != nil:
			s.flying = append(s.flying, flight{from: n.self.ID, to: e.Receipt.To, receipt: e.Receipt})
		case e.Have != nil:
			if e.Have.Key == s.plan.Key {
				s.haves[n.self.ID] = e.Have
			}
		case e.Done != nil:
			if n.done[e.Done.Key] != nil {
				s.t.Fatalf("seed %d: %s is done twice", s.seed, n.self.ID)
			}
			n.done[e.Done.Key] = e.Done
		case e.Step != nil:
			own := s.optimize(e.Step.Means)
			n.todo = append(n.todo, func() []Effect { return n.m.Stepped(e.Step.Key, own) })
		}
	}
}

// optimize is what owners make of means.
func (s *testSwarm) optimize(means []Mean) (own []Mean) {
	for _, x := range means {
		if x.Chunk < s.weights {
			v := slices.Clone(x.V)
			improve(v)
			own = append(own, Mean{x.Chunk, v})
		}
	}
	return own
}

func improve(v []float32) {
	for i := range v {
		v[i] = v[i]/3 + 1
	}
}

// step delivers one thing that can happen next; false: nothing can.
func (s *testSwarm) step() bool {
	s.steps++
	s.lead()
	var ready []*testNode
	for _, n := range s.nodes {
		if n.alive && len(n.todo) > 0 {
			ready = append(ready, n)
		}
	}
	if len(ready)+len(s.flying) == 0 {
		return false
	}
	if k := s.rng.IntN(len(ready) + len(s.flying)); k < len(ready) {
		n := ready[k]
		event := n.todo[0]
		n.todo = n.todo[1:]
		s.perform(n, event())
	} else {
		s.fly(k - len(ready))
	}
	return true
}

func (s *testSwarm) fly(k int) {
	f := s.flying[k]
	if s.rng.IntN(8) > 0 { // else it arrives twice
		s.flying = slices.Delete(s.flying, k, k+1)
	}
	to, from := s.node(f.to), s.node(f.from)
	switch {
	case !to.alive && f.frame != nil && from.alive:
		s.perform(from, from.m.Sent(f.to, f.frame, fmt.Errorf("connection lost")))
	case !to.alive:
	case f.frame != nil:
		s.perform(to, to.m.Frame(f.from, f.frame))
	case f.receipt != nil:
		s.perform(to, to.m.Sent(f.from, f.receipt.Frame, f.receipt.Err))
	}
}

// lead does the leader's part: cut when every owner holds every piece, ask for the sum, release.
func (s *testSwarm) lead() {
	if s.cut == nil {
		if len(s.owners()) == len(s.full()) {
			s.announceCut(s.marks(s.plan.Pieces))
		}
		return
	}
	if s.totals == nil && len(s.owners()) == len(s.full()) {
		s.release()
	}
}

func (s *testSwarm) owners() []record.PeerID {
	var ids []record.PeerID
	for _, os := range s.plan.Owners {
		if id := s.plan.Members[os[0]].ID; !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// full lists the owners whose Have names what is wanted: the cut, or all of the plan.
func (s *testSwarm) full() []record.PeerID {
	want := s.cut
	if want == nil {
		want = s.marks(s.plan.Pieces)
	}
	var ids []record.PeerID
	for _, id := range s.owners() {
		if h := s.haves[id]; h != nil && sameMarks(h.Pieces, s.concerning(id, want)) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *testSwarm) marks(ids []PieceID) []Mark {
	var ms []Mark
	for _, id := range ids {
		k, _ := s.piece(id)
		ms = append(ms, k)
	}
	return ms
}

func (s *testSwarm) announceCut(set []Mark) {
	s.cut = set
	for _, n := range s.nodes {
		n.todo = append(n.todo, func() []Effect { return n.m.Cut(s.plan.Key, set) })
	}
	s.closeOver()
}

// closeOver binds the key now in force to events queued just now.
func (s *testSwarm) closeOver() {
	key, set := s.plan.Key, s.cut
	for _, n := range s.nodes {
		n.todo[len(n.todo)-1] = func() []Effect { return n.m.Cut(key, set) }
	}
}

func (s *testSwarm) release() {
	t := Totals{}
	for _, k := range s.cut {
		t.Weight += k.Weight
		t.Loss += k.Loss
	}
	for _, id := range s.owners() {
		t.SumSq += s.haves[id].SumSq
		t.NonFinite = t.NonFinite || s.haves[id].NonFinite
	}
	s.totals = &t
	key := s.plan.Key
	for _, n := range s.nodes {
		n.todo = append(n.todo, func() []Effect { return n.m.Release(key, t) })
	}
}

// want is the result that everybody must have: the cut's pieces in plan order, added in float32.
func (s *testSwarm) want() []float32 {
	sum := make([]float32, s.chunks[len(s.chunks)-1].Hi)
	var weight int64
	begun := make([]bool, len(s.chunks))
	for _, id := range s.plan.Pieces {
		for _, k := range s.cut {
			if k.PieceID == id {
				_, v := s.piece(id)
				s.travel(v)
				for c, ch := range s.chunks {
					switch to := sum[ch.Lo:ch.Hi]; {
					case !s.adds(id, c):
					case !begun[c]:
						copy(to, v[ch.Lo:ch.Hi])
						begun[c] = true
					default:
						exact.Add(to, v[ch.Lo:ch.Hi])
					}
				}
				weight += k.Weight
			}
		}
	}
	exact.Divide(sum, sum, weight)
	if s.zero {
		improve(sum)
		clear(sum[s.chunks[s.weights-1].Hi:])
		s.travel(sum)
		return sum
	}
	for c, ch := range s.chunks {
		owner := s.node(s.plan.Members[s.plan.Owners[c][0]].ID)
		if before := owner.m.residual[c]; s.codec != exact.FP32 && before != nil {
			exact.Add(sum[ch.Lo:ch.Hi], before)
		}
	}
	s.travel(sum)
	return sum
}

// travel makes v what it is after its way over the network, chunk by chunk.
func (s *testSwarm) travel(v []float32) {
	for _, ch := range s.chunks {
		s.codec.Decode(v[ch.Lo:ch.Hi], coded(s.codec, v[ch.Lo:ch.Hi]))
	}
}

// check compares every living member's result, bit for bit.
func (s *testSwarm) check() {
	s.t.Helper()
	want := s.want()
	var units []Hash
	for _, n := range s.nodes {
		if !n.alive {
			continue
		}
		d := n.done[s.plan.Key]
		if d == nil {
			s.t.Fatalf("seed %d: %s has no result for round %d attempt %d after %d steps", s.seed, n.self.ID, s.round, s.attempt, s.steps)
		}
		if units == nil {
			units = d.Units
		}
		if !slices.Equal(d.Units, units) {
			s.t.Fatalf("seed %d: %s hashes differ", s.seed, n.self.ID)
		}
		for i := range want {
			if math.Float32bits(want[i]) != math.Float32bits(d.V[i]) {
				s.t.Fatalf("seed %d: %s element %d is %g, want %g", s.seed, n.self.ID, i, d.V[i], want[i])
			}
		}
	}
}
