package worker

import (
	"context"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
	"github.com/seed-7b27c88a/shoal/shard/layout"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// Where owners step, the optimizer's state of a chunk is with its owner alone. moments sees that it is where it is needed.
//
//   - Before this node steps a chunk under a plan it has the state of the round before: its own, or that of the owner of
//     the round before, who hands it over exactly (provide.go). Where that owner is gone the newest of what others have is
//     taken: a mirror, or a settled checkpoint; where there is none the moments begin at zero. Then the round's report
//     says so. Steps do not wait for anything else.
//   - Now and then an owner sends the state of its chunks to the two members behind it (mirror.go).
//   - It answers whoever asks for state (lend.go).
//
// Mirrors are memory of this node: for every chunk in which it follows an owner, the vectors of the chunk's state. What
// is on its way in is bounded by maxArriving vectors.
type moments struct {
	*Vectors
	job     cid.Cid
	self    record.PeerID
	trainer *trainer.Trainer
	chunks  []layout.Chunk // that hold weights

	mu       sync.Mutex    // guards the rest
	changed  chan struct{} // closed and replaced when at or plan changes
	at       uint64        // step of the trainer's state
	plan     *collective.Plan
	stop     context.CancelFunc // of what is provided for the plan
	owners   []record.PeerID    // of each chunk in the newest committed round; empty: unknown
	past     []past             // of the newest committed rounds
	tried    uint64             // round that was committed as this node stepped it last
	mirrors  map[int]trainer.Moments
	passed   map[int]passed
	pending  map[int]tentative // mirrors of a step that is not committed yet
	life     context.Context   // until another plan is in force
	coming   map[coming]*assembly
	asks     map[uint64]*request
	lastAsk  uint64
	lent     map[int]uint64 // step of the state that others got last, by chunk
	sent     map[int]mirrored
	manifest cid.Cid // a checkpoint with state of all chunks, of step
	step     uint64
	stale    bool // the trainer has state of steps after valid, which are not the job's any more
	valid    uint64
}

// coming names what a peer sends of a chunk.
type coming struct {
	from  record.PeerID
	chunk int
	ask   uint64
}

// assembly is a chunk's state of which vectors are missing.
type assembly struct {
	meta vectorMeta
	m    trainer.Moments
	open [slots]bool // on their way, or here
	at   time.Time   // of the last offer
}

// maxArriving bounds the chunks that are on their way here at a time; each has up to three vectors of at most 1 MiB.
const maxArriving = 32

func newMoments(v *Vectors, job cid.Cid, self record.PeerID, t *trainer.Trainer) (*moments, error) {
	l, err := t.Layout()
	if err != nil {
		return nil, err
	}
	return &moments{Vectors: v, job: job, self: self, trainer: t, chunks: l.Chunks[:t.Weights()], changed: make(chan struct{}),
		mirrors: map[int]trainer.Moments{}, pending: map[int]tentative{}, passed: map[int]passed{}, coming: map[coming]*assembly{}, asks: map[uint64]*request{}, sent: map[int]mirrored{}, lent: map[int]uint64{}}, nil
}

func (m *moments) notify() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// advanced notes the step of the trainer's state, and forgets chunks that nobody will ask this node for any more.
func (m *moments) advanced(step uint64) {
	m.mu.Lock()
	m.at = step
	owned := make([]bool, len(m.chunks))
	for c := range owned {
		owned[c] = len(m.owners) == 0 || m.owners[c] == m.self || m.plan != nil && ownerOf(m.plan, c) == m.self
	}
	m.notify()
	m.mu.Unlock()
	m.trainer.Forget(func(c int, _ uint64) bool { return owned[c] })
}

func ownerOf(p *collective.Plan, c int) record.PeerID { return p.Members[p.Owners[c][0]].ID }

// begin puts a plan in force. It returns a context that ends when another one is, and the chunks this node owns in it.
func (m *moments) begin(ctx context.Context, p *collective.Plan) (context.Context, []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stop != nil {
		m.stop()
	}
	ctx, m.stop = context.WithCancel(ctx)
	m.life = ctx
	m.plan = p
	m.notify()
	var own []int
	for c := range m.chunks {
		place := m.place(c)
		if place != 0 {
			delete(m.sent, c) // it may be this node's again when others have followed
		}
		switch {
		case place == 0:
			own = append(own, c)
		case place < 0:
			if m.mirrors[c].Step+1 < p.Round { // else its new owner may need it, where the one of before is lost meanwhile
				delete(m.mirrors, c)
			}
			delete(m.pending, c)
		}
	}
	return ctx, own
}

// tentative is a mirror that counts once a plan is committed.
type tentative struct {
	plan cid.Cid
	m    trainer.Moments
}

// context ends with the plan of the key; nil: it has.
func (m *moments) context(k collective.Key) context.Context {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.plan == nil || m.plan.Key != k {
		return nil
	}
	return m.life
}

// place is this node's among the owner and the successors of a chunk; -1: none. Called with mu held.
func (m *moments) place(c int) int {
	for i, o := range m.plan.Owners[c] {
		if m.plan.Members[o].ID == m.self {
			return i
		}
	}
	return -1
}

// committed notes who has the state of each chunk from now on. brought is the plan under which this node handed in
// its last step.
func (m *moments) committed(key, brought collective.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c, x := range m.pending {
		if x.plan.Equals(key.Plan) {
			m.mirrors[c] = x.m
		}
		delete(m.pending, c)
	}
	if m.plan == nil || m.plan.Key != key {
		m.owners = nil
		return
	}
	m.owners = make([]record.PeerID, len(m.chunks))
	for c := range m.owners {
		m.owners[c] = ownerOf(m.plan, c)
	}
	m.past = append(m.past, past{key.Round, m.owners})
	m.past = m.past[max(0, len(m.past)-coord.StagedResults):]
	if brought == key {
		m.tried = key.Round
	}
}

// ownersOf are the owners of the chunks in a round that was committed lately.
func (m *moments) ownersOf(round uint64) []record.PeerID {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.past {
		if p.round == round {
			return p.owners
		}
	}
	return nil
}

// past is who owned chunks in a committed round.
type past struct {
	round  uint64
	owners []record.PeerID
}

// confirm tells the trainer, whose state is about to be replaced, when its last try became the job's.
func (m *moments) confirm() {
	m.mu.Lock()
	step := m.tried
	m.mu.Unlock()
	if step > 0 {
		m.trainer.Confirm(step)
	}
}

// from notes a checkpoint that has all state.
func (m *moments) from(manifest cid.Cid, step uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if manifest.Defined() && step >= m.step {
		m.manifest, m.step = manifest, step
	}
}

// back forgets all state of steps that are not the job's any more.
func (m *moments) back(round uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owners, m.past, m.tried = nil, nil, 0
	if m.stop != nil {
		m.stop()
	}
	for c, x := range m.mirrors {
		if x.Step > round {
			delete(m.mirrors, c)
		}
	}
	clear(m.sent)
	clear(m.pending)
	if m.step > round {
		m.manifest, m.step = cid.Undef, 0
	}
	if !m.stale || round < m.valid {
		m.stale, m.valid = true, round
	}
}

// prune makes the trainer forget what back said is not the job's. The loop, which tells that, does not wait for it.
func (m *moments) prune() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stale {
		m.stale = false
		m.trainer.Forget(func(_ int, step uint64) bool { return step <= m.valid })
	}
}

// expect takes a vector that was asked for, or a mirror of a chunk whose owner this node follows.
func (m *moments) expect(from record.PeerID, v vectorMeta, n int) (xfer.Delivery, xfer.Code) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v.Chunk >= len(m.chunks) || m.chunks[v.Chunk].Len() != n {
		return nil, vectorMalformed
	}
	if !m.wanted(from, v) {
		return nil, vectorUnwanted
	}
	k := coming{from, v.Chunk, v.Ask}
	a := m.coming[k]
	if a == nil || !a.meta.same(v) {
		if len(m.coming) >= maxArriving && !m.evict() {
			return nil, vectorBusy
		}
		a = &assembly{meta: v, m: trainer.Moments{Chunk: v.Chunk, Step: v.Step, Count: v.Count}}
		m.coming[k] = a
	}
	if a.open[v.Slot] {
		return nil, vectorBusy
	}
	a.open[v.Slot], a.at = true, time.Now()
	return &arriving{to: m, from: from, meta: v, v: make([]float32, n)}, 0
}

// evict makes room by giving up a chunk whose sender has gone. Called with mu held.
func (m *moments) evict() bool {
	for k, a := range m.coming {
		if time.Since(a.at) > arriveTime {
			delete(m.coming, k)
			return true
		}
	}
	return false
}

// arriveTime is how long the vectors of a chunk may take to come; xfer gives up lanes that stand still before that.
const arriveTime = time.Minute

// wanted says whether state of a chunk may come from a peer. Called with mu held.
func (m *moments) wanted(from record.PeerID, v vectorMeta) bool {
	if v.Ask != 0 {
		r := m.asks[v.Ask]
		return r != nil && r.to == from && r.chunks[v.Chunk]
	}
	if m.plan == nil || v.Plan.Defined() && !v.Plan.Equals(m.plan.Key.Plan) {
		return false
	}
	return ownerOf(m.plan, v.Chunk) == from && m.place(v.Chunk) > 0
}

// same says whether two vectors are of the same state.
func (v vectorMeta) same(o vectorMeta) bool {
	return v.Step == o.Step && v.All == o.All && v.Plan == o.Plan
}

// arrived puts a vector where it belongs.
func (m *moments) arrived(a *arriving) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := coming{a.from, a.meta.Chunk, a.meta.Ask}
	s := m.coming[k]
	if s == nil || !s.meta.same(a.meta) {
		return // another version took its place
	}
	*vectorsOf(&s.m)[a.meta.Slot] = a.v
	if setOf(&s.m) != s.meta.All {
		return
	}
	delete(m.coming, k)
	switch r := m.asks[a.meta.Ask]; {
	case r != nil:
		r.take(s.m)
	case a.meta.Ask != 0 || !m.wanted(a.from, a.meta):
	case a.meta.Plan.Defined():
		m.pending[a.meta.Chunk] = tentative{a.meta.Plan, s.m}
	case s.m.Step >= m.mirrors[a.meta.Chunk].Step:
		m.mirrors[a.meta.Chunk] = s.m
	}
}

// dropped forgets a chunk of which a vector did not come.
func (m *moments) dropped(a *arriving) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.coming, coming{a.from, a.meta.Chunk, a.meta.Ask})
}

// wait calls ready with mu held, now and after each change, until it is true.
func (m *moments) wait(ctx context.Context, ready func() bool) error {
	for {
		m.mu.Lock()
		ok, changed := ready(), m.changed
		m.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reach waits for the trainer's state of a step, for a while.
func (m *moments) reach(ctx context.Context, step uint64, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return m.wait(ctx, func() bool { return m.at >= step }) == nil
}
