package collective

import (
	"math"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Machine is one member's part of a job's rounds. Every method takes an event and returns what is to be done about it,
// in order. The same events in the same order give the same effects.
type Machine struct {
	self Member

	plan    *view            // in force, or nil
	plans   map[string]*view // this round's plans by CID, the one in force included
	pieces  map[PieceID]*piece
	sums    map[int]*sum // by owned chunk, under the plan in force
	absent  []int        // per chunk, for owned ones: listed pieces of which it is not here
	lacking int          // the sum of absent: 0: everything listed is here
	cut     []Mark       // the set that counts, or nil
	totals  *Totals      // released
	closed  bool         // the plan in force is committed

	have     []Mark // what the last Have of this plan named
	told     bool   // a Have of this plan was made
	news     bool   // a piece became complete, or the cut came, since the last look for a Have
	lazy     bool   // partial Haves are made by Report alone
	deferred bool   // one waits for it

	withdrawn map[PieceID]bool // own pieces of this round that must not come again

	res  *result // of the plan in force: staged
	last *result // of the last committed round, maybe still incomplete; nil when this member was not in it

	sent sendState
	box  mailbox
	add  adder

	residual map[int][]float32 // by owned chunk: what the codec dropped of the last committed result
	outworn  map[int][]float32 // memory of the one before

	returned [][]float32     // vectors of results that nobody reads any more
	spare    [][]float32     // those given back before the last commit
	free     func([]float32) // takes the data of a contribution that was dropped

	results, chunks *lodging // where vectors of results and of sums come from; nil: memory
}

// piece is what this member holds of one contribution.
//
// Invariants: listed in the plan in force; slices are never written; own is nil for a piece of somebody else.
type piece struct {
	mark   Mark
	own    []float32     // the whole vector of this member's own piece
	chunks map[int]slice // of others' pieces, by chunk
	absent int           // owned chunks of which the slice is not here
}

// New returns the machine of a member that knows no plan yet.
func New(self Member) *Machine {
	m := &Machine{self: self, pieces: map[PieceID]*piece{}, sums: map[int]*sum{}, free: func([]float32) {}}
	m.clear()
	return m
}

// DeferPartial makes Haves of less than everything the plan lists wait for a call of Report. A sum over part of the
// pieces is wasted when the rest arrives a moment later, which is the ordinary case on a fast network.
func (m *Machine) DeferPartial() { m.lazy = true }

// Plan puts p in force. A higher attempt of the same round keeps the pieces that p still lists; anything else starts
// from nothing. Under the new plan everything that was not delivered is sent again, to whoever needs it now.
func (m *Machine) Plan(p *Plan) []Effect {
	if m.plan != nil && m.plan.Key == p.Key || p.Validate() != nil {
		return nil
	}
	v := newView(p, m.self)
	if old := m.plan; old == nil || !old.sameRound(p.Key) || p.Attempt <= old.Attempt || old.Codec != p.Codec || !sameChunks(old.Chunks, p.Chunks) {
		m.clear()
	}
	m.plan, m.plans[p.Key.Plan.KeyString()] = v, v
	m.add = adder{codec: p.Codec}
	m.drop(func(id PieceID) bool { _, listed := v.order[id]; return !listed })
	m.begin()

	var out []Effect
	for _, id := range p.Pieces {
		out = m.sendPiece(out, id, "")
	}
	out = m.openMailbox(out)
	return m.advance(out)
}

// Local hands in this member's own piece: v is the sum over its positions alone, over the whole index space, and must
// stay untouched until Commit. A piece that the plan in force does not list is dropped; so is one made before its plan, and one
// that is done when the round is committed without it.
func (m *Machine) Local(k Mark, v []float32) []Effect {
	if m.plan == nil || m.closed || m.plan.me < 0 || k.Member != m.self.ID || k.Boot != m.self.Boot || len(v) != m.plan.space {
		return nil
	}
	k.Loss = clampLoss(k.Loss)
	if _, listed := m.plan.order[k.PieceID]; !listed || !wellFormed(k) || m.pieces[k.PieceID] != nil || m.withdrawn[k.PieceID] {
		return nil
	}
	m.pieces[k.PieceID] = &piece{mark: k, own: v}
	m.news = true
	for _, c := range m.plan.owned {
		if m.plan.adds(k.PieceID, c) {
			m.arrived(c)
		}
	}
	return m.advance(m.sendPiece(nil, k.PieceID, ""))
}

// Withdraw takes this member's own pieces back: its state is being replaced, and their vectors are needed for other work.
// What was delivered of them stays where it is; what this member holds for others stays too. A piece of the same name is
// not taken again: computed from another state, it would differ from what was delivered.
func (m *Machine) Withdraw() []Effect {
	if m.plan == nil || m.closed {
		return nil
	}
	m.drop(func(id PieceID) bool {
		own := m.pieces[id].own != nil
		m.withdrawn[id] = m.withdrawn[id] || own
		return own
	})
	m.count()
	m.news = true
	return m.advance(nil)
}

// Cut names the set that counts. An owner whose last Have named another set answers with a sum over this one.
func (m *Machine) Cut(k Key, set []Mark) []Effect {
	if m.plan == nil || m.plan.Key != k || m.cut != nil {
		return nil
	}
	marks := make(map[PieceID]Mark, len(set))
	for _, s := range set {
		marks[s.PieceID] = s
	}
	cut := make([]Mark, 0, len(set))
	for _, id := range m.plan.Pieces { // plan order, however the cut lists them
		if k, ok := marks[id]; ok {
			cut = append(cut, k)
		}
	}
	if len(cut) != len(set) {
		return nil // names a piece twice, or one that the plan does not list
	}
	m.cut, m.news = cut, true
	return m.advance(nil)
}

// Release says that the totals are in the log: owners send results.
func (m *Machine) Release(k Key, t Totals) []Effect {
	if m.plan == nil || m.plan.Key != k || m.cut == nil || m.totals != nil {
		return nil
	}
	m.totals = &t
	return m.advance(nil)
}

// Commit ends the round: contributions are dropped. The result stays for members that miss part of it, and may still
// become complete here, until the next Commit.
func (m *Machine) Commit(k Key) []Effect {
	if m.plan == nil || m.plan.Key != k || m.closed {
		return nil
	}
	m.last, m.closed = nil, true
	if m.plan.me >= 0 {
		m.last = m.result()
	}
	m.keepResidual()
	m.res, m.cut = nil, nil
	if m.results == nil {
		m.spare = nil
	}
	m.spare, m.returned = append(m.returned, m.spare...), nil
	m.drop(func(PieceID) bool { return true })
	return nil
}

// keepResidual takes over what the codec dropped of the committed result. A skipped round dropped nothing; a round without
// this member ends what it kept.
func (m *Machine) keepResidual() {
	switch {
	case m.last == nil:
		m.residual, m.outworn = nil, nil
	case m.last.reduced:
		m.residual, m.outworn = m.last.residual, m.residual
	}
}

// drop forgets pieces and what was sent of them.
func (m *Machine) drop(which func(PieceID) bool) {
	for id, p := range m.pieces { // the order does not show
		if !which(id) {
			continue
		}
		for _, s := range p.chunks {
			m.free(s.data)
		}
		delete(m.pieces, id)
		m.sent.forget(id)
	}
}

// Reset forgets everything: the state this member worked from is not the job's.
func (m *Machine) Reset() []Effect {
	var out []Effect
	for _, f := range m.box.takeAll() {
		out = append(out, receipt(f.from, f.frame, RefusedStale))
	}
	m.clear()
	for _, s := range m.sums {
		m.chunks.put(s.v)
	}
	m.plan, m.last, m.sums, m.residual, m.outworn = nil, nil, map[int]*sum{}, nil, nil
	return out
}

// Delivered says whether this member's own piece id has reached everybody who needs it under the plan in force.
func (m *Machine) Delivered(id PieceID) bool {
	p := m.pieces[id]
	if p == nil || p.own == nil {
		return false
	}
	for c := range m.plan.Chunks {
		if to, ok := m.plan.target(c, m.plan.me); ok && m.plan.adds(id, c) && !m.sent.done(m.plan.Members[to], id, c, len(m.plan.Chunks)) {
			return false
		}
	}
	return true
}

// clear drops all of a round.
func (m *Machine) clear() {
	m.drop(func(PieceID) bool { return true })
	m.plans = map[string]*view{}
	m.withdrawn = map[PieceID]bool{}
	m.sent = sendState{}
	m.have, m.told, m.cut, m.totals, m.closed, m.res, m.absent = nil, false, nil, nil, false, nil, nil
	m.deferred = false
	for _, s := range m.sums { // a piece of the same name in another generation is another
		s.filled = false
	}
}

// begin makes a fresh start under the plan now in force with the pieces that are here. Sums keep their memory, and
// in a further attempt their values.
func (m *Machine) begin() {
	for c, s := range m.sums {
		if c >= len(m.plan.Owners) || m.plan.Owners[c][0] != m.plan.me || len(s.v) != m.plan.Chunks[c].Hi-m.plan.Chunks[c].Lo {
			m.chunks.put(s.v)
			delete(m.sums, c)
		}
	}
	m.sent.res = nil
	m.have, m.told, m.cut, m.totals, m.closed = nil, false, nil, nil, false
	m.res = m.res.under(m.plan)
	m.news, m.deferred = true, false
	m.count()
}

// count finds what is absent.
func (m *Machine) count() {
	m.absent, m.lacking = make([]int, len(m.plan.Chunks)), 0
	for _, p := range m.pieces { // only counts: the order does not show
		p.absent = 0
	}
	for _, c := range m.plan.owned {
		for _, id := range m.plan.addedTo(c, m.plan.Pieces) {
			if p := m.pieces[id]; p == nil {
				m.absent[c]++
				m.lacking++
			} else if _, here := m.slice(p, c); !here {
				m.absent[c]++
				m.lacking++
				p.absent++
			}
		}
	}
}

// advance does what has become possible: sums, a Have, results.
func (m *Machine) advance(out []Effect) []Effect {
	if m.plan == nil || m.closed {
		return out
	}
	out = m.report(out, false)
	return m.reduce(out)
}

func sameChunks(a, b []Chunk) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// wellFormed says whether a mark may be counted.
func wellFormed(k Mark) bool { return k.Weight >= 0 && k.Weight <= maxWeight && finite(k.Loss) }

const maxWeight = 1 << 40 // target tokens of one piece

// clampLoss keeps a loss that overflowed countable: records carry finite numbers only, and a piece with such a loss
// makes the sum count as not finite (see nonFiniteLoss), so that the round ends as a skipped step.
func clampLoss(l float64) float64 {
	if finite(l) {
		return l
	}
	return math.MaxFloat64
}

func nonFiniteLoss(l float64) bool { return math.Abs(l) == math.MaxFloat64 }

func receipt(to record.PeerID, f *Frame, why Refusal) Effect {
	r := &Receipt{To: to, Frame: f}
	if why != 0 {
		r.Err = why
	}
	return Effect{Receipt: r}
}
