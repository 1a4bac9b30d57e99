package coord

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/pipe"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
)

// book is what the leader knows of a pipe. A new leader has it again once everybody has repeated what it has done.
type book struct {
	pipe   cid.Cid // the plan that began it
	book   *pipe.Book
	lost   []record.PeerID
	said   map[record.PeerID]*flowMsg
	twice  bool // a micro-batch is in two sums of one stage: the pipe's promise is broken
	moved  time.Duration
	sealed time.Duration // when the seal was sent last; 0: never
	apart  []parted
}

// parted is a member whose frames do not get to another one.
type parted struct {
	from, to record.PeerID
	since    time.Duration
}

const (
	sealAgain  = 500 * time.Millisecond
	partedWait = 2 * deadGrace // one of the two may turn out to be gone
)

// leadFlow opens the book of the plan in force, or goes on in it.
func (m *Machine) leadFlow() {
	l, p := m.lead, m.job.plan
	if l == nil {
		return
	}
	if p == nil || !p.flows() {
		l.flow = nil
		return
	}
	if l.flow == nil || l.flow.pipe != p.pipeKey().Plan {
		l.flow = &book{pipe: p.pipeKey().Plan, book: pipe.NewBook(m.pipePlan(p)), said: map[record.PeerID]*flowMsg{}}
	}
	for _, id := range p.lost() {
		if !slices.Contains(l.flow.lost, id) {
			l.flow.lost = append(l.flow.lost, id)
			l.flow.book.Lost(id)
		}
	}
	l.flow.moved = m.now
}

// takeFlow notes how far a member is.
func (m *Machine) takeFlow(o *opened, f *flowMsg) {
	l, p := m.lead, m.job.plan
	if l == nil || l.flow == nil || p == nil || f.Plan != l.flow.pipe || slices.Contains(l.flow.lost, o.signer) {
		return
	}
	seat := findRow(p.seats(), Row{ID: o.signer, Boot: o.header.Boot})
	n := len(m.micros(p.key.Round))
	if seat < 0 || len(f.Done) != (n+7)/8 {
		return
	}
	b, before := l.flow, bits(nil)
	if was := b.said[o.signer]; was != nil {
		before = was.Done
	}
	for i := range 8 * len(f.Done) {
		switch {
		case f.Done.has(i) && i >= n, before.has(i) && !f.Done.has(i):
			return // no correct member says so
		}
	}
	for i := range n {
		if f.Done.has(i) && !before.has(i) {
			b.moved = m.now
			b.twice = !b.book.Finished(o.signer, uint32(i)) || b.twice
		}
	}
	b.said[o.signer] = f
	if f.Pace > 0 {
		m.peers.find(o.signer).pace = f.Pace
	}
	b.hear(o.signer, f.Lost, m.now)
}

func (b *book) hear(from record.PeerID, lost []record.PeerID, now time.Duration) {
	for _, to := range lost {
		if !slices.ContainsFunc(b.apart, func(x parted) bool { return x.from == from && x.to == to }) {
			b.apart = append(b.apart, parted{from, to, now})
		}
	}
}

// final is which positions each piece of the plan holds; nil: that is not known yet.
func (m *Machine) final() [][]shard.Range {
	p, l := m.job.plan, m.lead
	out := make([][]shard.Range, len(p.Pieces))
	switch {
	case p.sealed():
		for i, pc := range p.Pieces {
			out[i] = pc.Ranges
		}
	case m.job.cut != nil:
		for i, k := range m.job.cut.Set {
			out[k.Piece] = m.job.cut.Ranges[i]
		}
	case l.flow.book.Complete() && !l.flow.twice:
		micros := m.micros(p.key.Round)
		for i, pc := range p.Pieces {
			if said := l.flow.said[pc.ID]; said != nil {
				out[i] = rangesOf(said.Done, micros)
			}
		}
	default:
		return nil
	}
	return out
}

// driveFlow brings the round's pipe to its end, and then proposes the cut.
func (m *Machine) driveFlow(owners []int) {
	positions := m.final()
	if positions == nil {
		m.watchFlow()
		return
	}
	p := m.job.plan
	if !p.sealed() {
		m.sealAll()
	}
	c := &CutEntry{}
	for i := range p.Pieces {
		k, _, all := m.heldBy(i, owners)
		if all {
			c.Set, c.Ranges = append(c.Set, k), append(c.Ranges, positions[i])
		} else if len(positions[i]) > 0 {
			m.watchCollect(owners)
			return
		}
	}
	if !m.validFlowSet(c) {
		m.watchCollect(owners)
		return
	}
	m.noteArrival()
	c.Totals = m.totalsOf(c.Set, owners)
	m.propose(contextCut, p.key.Round, p.key.Attempt, c)
}

// sealAll tells everybody that the pipe is at its end, until all have said that they know.
func (m *Machine) sealAll() {
	b, p := m.lead.flow, m.job.plan
	if b.sealed == 0 {
		m.lead.from, m.lead.tries = m.now, 0
	} else if m.now < b.sealed+sealAgain {
		return
	}
	b.sealed = m.now
	none := newBits(len(m.micros(p.key.Round)))
	for _, i := range working(p.Members) {
		id, done := p.Members[i].ID, none
		if said := b.said[id]; said != nil {
			if done = said.Done; said.Sealed {
				continue
			}
		}
		m.send(id, m.header(contextSeal, p.key.Round, p.key.Attempt), sealMsg{Plan: b.pipe, Done: done})
	}
}

// watchFlow goes to the next attempt when a member of the pipe is gone or out of reach, or nothing moves any more.
func (m *Machine) watchFlow() {
	l, b := m.lead, m.lead.flow
	f := fault{phase: "work", dead: m.gone()}
	if len(f.dead) > 0 && m.now < m.lastHeard(f.dead)+deadGrace || !m.heardAll() {
		return
	}
	f.timed = m.now >= max(l.from, b.moved)+doubled(m.job.plan.Collect, l.tries)
	switch {
	case len(f.dead) > 0:
	case b.twice || b.anySealed():
		f.broken = true // somebody's sum is closed, and the others' do not make the batch with it
	case m.unreachedIn(&f):
	case f.timed:
		m.stalled(&f)
	default:
		return
	}
	m.nextFlow(f)
}

// anySealed tells whether a sum may be closed already.
func (b *book) anySealed() bool {
	for id, f := range b.said {
		if f.Sealed && !slices.Contains(b.lost, id) {
			return true
		}
	}
	return b.sealed > 0
}

// heardAll tells whether every living member of the pipe has said how far it is: a new leader waits a little for them.
func (m *Machine) heardAll() bool {
	if m.now >= m.lead.since+slot {
		return true
	}
	for _, i := range working(m.job.plan.Members) {
		r := m.job.plan.Members[i]
		if m.lead.flow.said[r.ID] == nil && m.lead.from == m.lead.since && m.peers.lives(r.ID, r.Boot, m.now) {
			return false
		}
	}
	return true
}

// unreachedIn finds a member that another one's frames do not get to, though both are there. Of the two the one goes that
// has more others beside it in its stage.
func (m *Machine) unreachedIn(f *fault) bool {
	p := m.job.plan
	for _, x := range m.lead.flow.apart {
		from, to := workingRow(p.Members, x.from), workingRow(p.Members, x.to)
		if from < 0 || to < 0 || from == to || m.now < max(x.since, m.lead.from)+partedWait {
			continue
		}
		out, other := to, from
		if m.mates(from) > m.mates(to) {
			out, other = from, to
		}
		if m.mates(out) == 0 && m.now < max(x.since, m.lead.from)+doubled(leastWait, min(int(attemptOf(p.key.Attempt)), 5)) {
			continue // beginning afresh is all that is left
		}
		f.mute, f.why = []int{out}, "cannot reach "+string(p.Members[other].ID)
		return true
	}
	return false
}

// mates counts who else works in a row's stage.
func (m *Machine) mates(row int) (n int) {
	p := m.job.plan
	for _, i := range working(p.Members) {
		if i != row && p.Members[i].Stage == p.Members[row].Stage {
			n++
		}
	}
	return n
}

// stalled finds who has done nothing while others of its stage have.
func (m *Machine) stalled(f *fault) {
	p, idle := m.job.plan, func(i int) bool {
		said := m.lead.flow.said[m.job.plan.Members[i].ID]
		return said == nil || len(bytes.Trim(said.Done, "\x00")) == 0
	}
	rows := working(p.Members)
	for _, i := range rows {
		mate := func(k int) bool { return p.Members[k].Stage == p.Members[i].Stage && !idle(k) }
		if idle(i) && slices.ContainsFunc(rows, mate) {
			f.mute = append(f.mute, i)
		}
	}
	if f.why = fmt.Sprintf("nothing done in %v", (m.now - m.lead.from).Round(time.Millisecond)); len(f.mute) == 0 {
		f.broken = m.lead.tries >= patientTries
	}
}
