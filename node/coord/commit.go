package coord

import (
	"maps"
	"slices"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// takeAck notes that a member has the whole result of the plan in force.
func (m *Machine) takeAck(o *opened, a *ackMsg) {
	l, p := m.lead, m.job.plan
	if l == nil || p == nil || a.Plan != p.key.Plan || len(a.Units) != m.units() {
		return
	}
	if i := p.row(o.signer, o.header.Boot); i >= 0 {
		l.acks[i], l.notices[i] = a.Units, a.Notice
	}
}

// units is the number of units in the index space.
func (m *Machine) units() int {
	n := 0
	for i, c := range m.g.Chunks {
		if i == 0 || c.Unit != m.g.Chunks[i-1].Unit {
			n++
		}
	}
	return n
}

// driveCommit commits when every planned member that is there has acknowledged the same hashes. When more than half
// have, the others get as long as the gather deadline says, but do not hold the round up beyond it.
func (m *Machine) driveCommit() {
	units := m.agreed()
	switch {
	case units == nil:
		m.watchGather("gather")
	case m.plannedComes() && !m.overdue(m.job.plan.Gather), m.syncingComes() && !m.overdue(m.lead.gather.patience()):
	default:
		m.proposeCommit(units)
	}
}

// agreed is the hash per unit that more than half of the planned members acknowledged, or nil.
func (m *Machine) agreed() []collective.Hash {
	units := make([]collective.Hash, m.units())
	for u := range units {
		h, n := m.vote(u)
		if 2*n <= len(working(m.job.plan.Members)) {
			return nil
		}
		units[u] = h
	}
	return units
}

// vote is the hash of a unit that most planned members acknowledged, and how many.
func (m *Machine) vote(unit int) (best collective.Hash, most int) {
	var votes ballot
	for _, i := range working(m.job.plan.Members) {
		if a := m.lead.acks[i]; a != nil {
			votes.add(a[unit])
		}
	}
	return votes.most()
}

// ballot counts votes for hashes.
type ballot struct {
	order []collective.Hash // as they came
	count map[collective.Hash]int
}

func (b *ballot) add(h collective.Hash) {
	if b.count == nil {
		b.count = map[collective.Hash]int{}
	}
	if b.count[h]++; b.count[h] == 1 {
		b.order = append(b.order, h)
	}
}

// most is the hash with the most votes, and how many; of equals the one that came first.
func (b *ballot) most() (best collective.Hash, n int) {
	for _, h := range b.order {
		if b.count[h] > n {
			best, n = h, b.count[h]
		}
	}
	return best, n
}

// plannedComes tells whether a planned member that is there has not acknowledged yet.
func (m *Machine) plannedComes() bool {
	for i, r := range m.job.plan.Members {
		if !r.Syncing && m.lead.acks[i] == nil && m.peers.lives(r.ID, r.Boot, m.now) {
			return true
		}
	}
	return false
}

// syncingComes tells whether a syncing member is about to be able to work: it has the state before this round, and not
// its result yet. It is worth a moment, or a round that few members carry out would never let others in.
func (m *Machine) syncingComes() bool {
	for i, r := range m.job.plan.Members {
		if r.Syncing && m.lead.acks[i] == nil && m.peers.lives(r.ID, r.Boot, m.now) {
			if _, caughtUp := m.stateNow(r); caughtUp {
				return true
			}
		}
	}
	return false
}

func (m *Machine) proposeCommit(units []collective.Hash) {
	p, j := m.job.plan, m.job
	round := p.key.Round
	c := CommitEntry{
		Of: p.key.Plan, Prev: j.commit, Units: units, Counted: p.counted(j.cut),
		Totals: *j.totals, Tokens: j.tokens + j.totals.Weight, State: m.stateHash(), Scale: 1,
		Collect: m.lead.cutAt, Gather: m.now - m.lead.began - m.lead.cutAt, Bad: m.badAfter(j.totals),
	}
	left := m.g.afterRound(round)
	if m.g.diloco() {
		left = j.cursor.after(p.Pieces, c.Counted)
	}
	c.Next, c.Open = left.next, left.open
	if attemptOf(p.key.Attempt) == 0 && m.lead.tries == 0 {
		m.lead.gather.add(m.now - m.lead.from)
	}
	ready, absent := m.readyNext(units, c.State)
	c.Absent = clip(slices.Concat(p.Absent, m.lead.missed, absent, m.moments()))
	if !left.done(&m.g) {
		c.Plan = m.planNext(round+1, ready, left)
	}
	m.propose(contextCommit, round, p.key.Attempt, &c)
}

// planNext is the plan that the commit carries.
func (m *Machine) planNext(round uint64, ready []record.PeerID, left cursor) *PlanEntry {
	d := draft{round: round, attempt: m.job.firstAttempt(), rows: m.rowsOf(ready), cursor: left}
	if len(working(d.rows)) == 0 { // whoever acknowledged is gone: the next attempt finds who is there
		for i, r := range m.job.plan.Members {
			if slices.Contains(ready, r.ID) {
				d.rows = append(d.rows, m.job.plan.Members[i])
				d.rows[len(d.rows)-1].Syncing, d.rows[len(d.rows)-1].Aside = false, false
			}
		}
	}
	if m.g.Pipeline != nil {
		if err := m.place(&d, rowsBut(d.rows, nil)); err != nil {
			return nil // driveFirst waits for who is missing
		}
		return m.plan(d)
	}
	m.wholeBatch(&d)
	return m.plan(d)
}

// readyNext lists who may work in the next round: who has the result, and the state that it is a step from.
func (m *Machine) readyNext(units []collective.Hash, state collective.Hash) (ready []record.PeerID, absent []Absence) {
	p := m.job.plan
	for i, r := range p.Members {
		why := m.unready(i, units, state)
		if why == "" {
			ready = append(ready, r.ID)
			m.lead.late[r.ID] = max(m.lead.late[r.ID]-1, 0)
		} else if !r.Syncing {
			absent = append(absent, Absence{Peer: r.ID, Attempt: attemptOf(p.key.Attempt), Phase: "gather", Why: why})
		}
	}
	return ready, absent
}

func (m *Machine) unready(i int, units []collective.Hash, state collective.Hash) string {
	r, ack := m.job.plan.Members[i], m.lead.acks[i]
	switch {
	case ack == nil:
		return "result not acknowledged"
	case !slices.Equal(ack, units):
		return "result has another hash"
	}
	h, known := m.stateNow(r)
	switch {
	case r.Syncing && !known:
		return "syncing"
	case known && state != (collective.Hash{}) && h != (collective.Hash{}) && h != state:
		return "weights have another hash"
	}
	return ""
}

// stateNow is the hash of a member's state before this round; known: it has that state.
func (m *Machine) stateNow(r Row) (h collective.Hash, known bool) {
	if s, ok := m.lead.states[r.ID]; ok && s.at.round == m.job.round && s.at.cid == m.job.commit {
		return s.hash, true
	}
	if p := m.peers.find(r.ID); p != nil && p.boot == r.Boot && p.ready && p.round == m.job.round && p.commit == m.job.commit {
		return collective.Hash{}, true
	}
	return collective.Hash{}, false
}

// stateHash is the hash of weights and moments before this round that most planned members have; of equals the one of
// the member that stands first.
func (m *Machine) stateHash() (best collective.Hash) {
	var votes ballot
	rows := m.job.plan.Members
	for _, i := range working(rows) {
		if h, _ := m.stateNow(rows[i]); h != (collective.Hash{}) {
			votes.add(h)
		}
	}
	best, _ = votes.most()
	return best
}

// leadCommit forgets what was of the committed round alone.
func (m *Machine) leadCommit(done commitAt) {
	if m.lead == nil {
		return
	}
	m.lead.asked = m.now
	maps.DeleteFunc(m.lead.states, func(_ record.PeerID, s stateOf) bool { return s.at.round+1 < done.round })
}
