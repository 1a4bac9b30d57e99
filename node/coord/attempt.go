package coord

import (
	"fmt"
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
)

const (
	// maxAdding is how many attempts add pieces to a round before it starts from nothing.
	maxAdding = 3
	// maxExtensions is how often a deadline is doubled before that too.
	maxExtensions = 5
	// deadGrace lets what a dead member had sent arrive before its work is planned again.
	deadGrace = 250 * time.Millisecond
)

// fault is why a plan does not come to its end: which of its working members stand in the way.
type fault struct {
	phase string
	dead  []int // rows that are gone
	mute  []int // rows that should have reported and did not: they must not own chunks
	late  []int // rows whose piece has reached no owner: others do their positions
	apart bool  // a working member and an owner cannot reach each other
	timed bool  // the deadline has passed

	why    string // of the mute; empty: they did not report
	broken bool   // the pipe cannot go on
}

// moves tells whether chunks change hands for it.
func (f *fault) moves() bool { return len(f.dead)+len(f.mute) > 0 || f.apart }

// watchCollect goes to the next attempt when the deadline of the work has passed, or when a needed member is gone.
func (m *Machine) watchCollect(owners []int) {
	f := fault{phase: "work", dead: m.gone(), timed: m.overdue(m.job.plan.Collect)}
	if len(f.dead) > 0 && m.now < m.lastHeard(f.dead)+deadGrace {
		return
	}
	if f.apart = m.partedFrom(owners); f.apart && !f.timed {
		m.nextAttempt(f)
		return
	}
	if !f.timed && (!m.hindered(f.dead, owners) || m.worthWaiting(owners)) {
		return
	}
	if f.timed {
		f.mute, f.late = m.blame(owners)
	}
	m.nextAttempt(f)
}

// watchGather does the same while totals or acknowledgements are awaited.
func (m *Machine) watchGather(phase string) {
	f := fault{phase: phase, dead: m.gone(), timed: m.overdue(m.job.plan.Gather)}
	if len(f.dead) > 0 && m.now < m.lastHeard(f.dead)+deadGrace {
		return
	}
	owners := m.job.plan.owning()
	if !f.timed && !slices.ContainsFunc(f.dead, func(i int) bool { return slices.Contains(owners, i) }) {
		return
	}
	if f.timed && m.onTheWay() {
		m.extend(f)
		return
	}
	if f.timed {
		f.mute = m.silentOwners(owners)
		if len(f.mute) == 0 {
			f.mute = m.suspects(owners)
		}
	}
	m.nextAttempt(f)
}

// onTheWay tells whether a large group should be given more time to hand its result round. Who has not acknowledged there
// waits for an owner with a busy line more often than it is to blame, and an owner that is left out for nothing leaves its
// chunks, and all that was sent of them, to others that are busy too. One that is dead or frozen misses its beats.
func (m *Machine) onTheWay() bool {
	return len(m.job.plan.Members) > manyMembers && m.lead.tries < patientTries
}

const patientTries = 2

// overdue tells whether the present phase has lasted longer than allowed: doubled for each extension.
func (m *Machine) overdue(d time.Duration) bool { return m.now >= m.lead.from+doubled(d, m.lead.tries) }

// gone lists working rows whose run is not there any more.
func (m *Machine) gone() (out []int) {
	for i, r := range m.job.plan.Members {
		if !r.Syncing && !m.peers.lives(r.ID, r.Boot, m.now) {
			out = append(out, i)
		}
	}
	return out
}

func (m *Machine) lastHeard(rows []int) (t time.Duration) {
	for _, i := range rows {
		if p := m.peers.find(m.job.plan.Members[i].ID); p != nil {
			t = max(t, p.heard)
		}
	}
	return t
}

// hindered tells whether the round cannot be cut without the dead: one of them owns chunks, or made a piece that not
// every owner has. Owners are given a moment to report what they hold of pieces whose makers were dead before the plan.
func (m *Machine) hindered(dead, owners []int) bool {
	p := m.job.plan
	for _, d := range dead {
		if slices.Contains(owners, d) {
			return true
		}
	}
	if m.now < m.lead.from+2*deadGrace {
		return false
	}
	for i, pc := range p.Pieces {
		if _, _, all := m.heldBy(i, owners); !all && !m.peers.lives(pc.ID, pc.Boot, m.now) {
			return true
		}
	}
	return false
}

// worthWaiting tells whether living members still owe work in a large group. There somebody dies in every round: an
// attempt for each death would cost more than doing the work of all of them together, when the others are through.
func (m *Machine) worthWaiting(owners []int) bool {
	p := m.job.plan
	if len(p.Members) <= manyMembers {
		return false
	}
	living := slices.DeleteFunc(slices.Clone(owners), func(o int) bool {
		return !m.peers.lives(p.Members[o].ID, p.Members[o].Boot, m.now)
	})
	for i, pc := range p.Pieces {
		if _, _, all := m.heldBy(i, living); !all && m.peers.lives(pc.ID, pc.Boot, m.now) {
			return true
		}
	}
	return false
}

const manyMembers = 16

// blame finds who stood in the way when the deadline passed. An owner without a piece that another owner has, or without
// any report while others have one, is mute. A piece that nobody has makes its maker late; so does one that an earlier
// attempt asked for and some owner still lacks, since its maker may have lost it with a generation that was given up.
func (m *Machine) blame(owners []int) (mute, late []int) {
	p := m.job.plan
	reported := slices.ContainsFunc(owners, func(o int) bool { return m.lead.haves[o] != nil })
	for _, o := range owners {
		if m.lead.haves[o] == nil && reported {
			mute = append(mute, o)
		}
	}
	for i, pc := range p.Pieces {
		_, n, all := m.heldBy(i, owners)
		if all {
			continue
		}
		if r := p.row(pc.ID, pc.Boot); r >= 0 && (n == 0 || pc.Attempt < p.key.Attempt) && !slices.Contains(late, r) {
			late = append(late, r)
		}
		for _, o := range owners {
			if _, ok := m.lead.haves[o].mark(i); n > 0 && !ok && p.concerns(i, o) && !slices.Contains(mute, o) {
				mute = append(mute, o)
			}
		}
	}
	return mute, late
}

// silentOwners are owners that have not answered the cut, or not acknowledged the result, while another has.
func (m *Machine) silentOwners(owners []int) (mute []int) {
	for _, o := range owners {
		summed := m.lead.haves[o] != nil && slices.Equal(m.lead.haves[o].Pieces, m.job.plan.concerning(m.job.cut.Set, o))
		if m.lead.acks[o] == nil && (m.job.totals != nil || !summed) {
			mute = append(mute, o)
		}
	}
	if len(mute) == len(owners) {
		return nil
	}
	return mute
}

// suspects are the owners of units whose hashes the members do not agree on: one of them sent different bytes to
// different members.
func (m *Machine) suspects(owners []int) (out []int) {
	first, unit := m.g.Chunks[0].Unit, 0
	for c, ch := range m.g.Chunks {
		if c > 0 && ch.Unit != first {
			first, unit = ch.Unit, unit+1
		}
		o := m.job.plan.parts.Owners[c][0]
		if _, most := m.vote(unit); 2*most <= len(working(m.job.plan.Members)) && most > 0 && !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	if len(out) == len(owners) {
		return out[:len(out)/2] // not all of them can be left out at once
	}
	return out
}

// nextAttempt plans the round again: with the members that are there, the pieces that may still count, and new work for
// the positions that are missing. When nothing can be done better the deadline is extended instead.
func (m *Machine) nextAttempt(f fault) {
	p := m.job.plan
	if p.flows() {
		m.nextFlow(f)
		return
	}
	d := draft{round: p.key.Round, attempt: p.key.Attempt + 1, slower: m.lead.tries, cursor: m.job.cursor}
	if f.timed {
		d.slower++
	}
	d.rows = m.rowsWithout(f)
	d.absent = m.absentNow(f)
	able := working(d.rows)
	if len(able) == 0 {
		m.extend(f)
		return
	}
	exhausted := m.adding() >= maxAdding || m.lead.tries >= maxExtensions
	if exhausted && f.timed || len(f.dead)+len(f.mute) >= len(working(p.Members)) {
		m.wholeBatch(&d)
		m.goOn(d, f)
		return
	}
	d.base, d.shares = p.base(), p.Shares
	if m.g.diloco() {
		m.nextOwn(d, f)
		return
	}
	d.kept, d.missing = m.salvage(f, d.rows)
	d.workers = m.helpers(d.rows, f.late)
	if len(d.missing) > 0 && len(d.workers) == 0 || len(d.missing) == 0 && !f.moves() {
		m.extend(f)
		return
	}
	m.goOn(d, f)
}

func (m *Machine) goOn(d draft, f fault) {
	for _, i := range slices.Concat(f.late, f.mute) {
		id := m.job.plan.Members[i].ID
		m.lead.late[id] = min(m.lead.late[id]+1, 3)
	}
	for _, a := range d.absent[min(len(m.job.plan.Absent), len(d.absent)):] {
		m.note("round %d goes to attempt %d: %s: %s", d.round, attemptOf(d.attempt)+1, a.Peer, a.Why)
	}
	if i := m.job.plan.row(m.self.ID, m.self.Boot); slices.Contains(f.late, i) || slices.Contains(f.mute, i) {
		m.lead.yield = true
	}
	m.propose(contextPlan, d.round, d.attempt, m.plan(d))
}

// extend waits twice as long once the deadline has passed: nobody else could do better.
func (m *Machine) extend(f fault) {
	if f.timed {
		m.lead.tries++
	}
}

// adding counts the attempts of this round that have added pieces since it started from nothing.
func (m *Machine) adding() int {
	seen := map[uint32]bool{}
	for _, pc := range m.job.plan.Pieces {
		seen[pc.Attempt] = true
	}
	return len(seen)
}

// rowsWithout is the member table of the next attempt: the dead are out, the mute own nothing, and who has the state of
// the round before may work.
func (m *Machine) rowsWithout(f fault) []Row {
	p := m.job.plan
	ready := m.readyAt(p.key.Round - 1)
	for i, r := range p.Members {
		if !r.Syncing && m.peers.lives(r.ID, r.Boot, m.now) && !slices.Contains(ready, r.ID) {
			ready = append(ready, r.ID) // it had the state when the round was planned
		}
		if slices.Contains(f.mute, i) {
			ready = slices.DeleteFunc(ready, func(id record.PeerID) bool { return id == r.ID })
		}
	}
	return m.rowsOf(ready)
}

// salvage lists the pieces that may still count under new rows, and the positions that no such piece has for sure.
func (m *Machine) salvage(f fault, rows []Row) (kept []Piece, missing []shard.Range) {
	p := m.job.plan
	var sure []shard.Range
	for i, pc := range p.Pieces {
		keep, certain := m.prospect(i, f, rows)
		if !keep {
			continue
		}
		kept = append(kept, pc)
		if certain {
			sure = append(sure, pc.Ranges...)
		}
	}
	return kept, without(m.batch(p.key.Round), sure)
}

// prospect tells whether a piece may still count, and whether it is certain enough not to compute its positions again.
// The living owners' copies stay; those of a dead owner are sent again by the piece's maker, or are at the first
// successor when the maker was the owner itself.
func (m *Machine) prospect(i int, f fault, rows []Row) (keep, certain bool) {
	p := m.job.plan
	pc := p.Pieces[i]
	maker := p.row(pc.ID, pc.Boot)
	if slices.ContainsFunc(rows, func(r Row) bool { return r.ID == pc.ID && r.Boot == pc.Boot }) && !m.cutOff(maker, rows) {
		return true, !slices.Contains(f.late, maker)
	}
	lost := slices.Concat(f.dead, f.mute, m.setAside(rows))
	for c, os := range p.parts.Owners {
		holder := os[0]
		if !p.inChunk(pc, c) {
			continue
		}
		if holder == maker { // its first successor has the slice
			if len(os) < 2 || slices.Contains(lost, os[1]) {
				return false, false
			}
			continue
		}
		if _, ok := m.lead.haves[holder].mark(i); !ok || slices.Contains(lost, holder) {
			return false, false
		}
	}
	return true, true
}

// helpers are the working rows that were not late themselves.
func (m *Machine) helpers(rows []Row, late []int) (out []int) {
	for _, i := range working(rows) {
		busy := slices.ContainsFunc(late, func(l int) bool { return m.job.plan.Members[l].ID == rows[i].ID })
		if !busy {
			out = append(out, i)
		}
	}
	return out
}

// without is all minus rs.
func without(all shard.Range, rs []shard.Range) (out []shard.Range) {
	rs = slices.Clone(rs)
	slices.SortFunc(rs, byLo)
	at := all.Lo
	for _, r := range rs {
		if r.Lo > at {
			out = append(out, shard.Range{Lo: at, Hi: min(r.Lo, all.Hi)})
		}
		at = max(at, r.Hi)
	}
	if at < all.Hi {
		out = append(out, shard.Range{Lo: at, Hi: all.Hi})
	}
	return out
}

// absentNow says who is left out and why, on top of what earlier attempts of the round said.
func (m *Machine) absentNow(f fault) []Absence {
	p := m.job.plan
	out := slices.Clone(p.Absent)
	add := func(i int, why string) {
		out = append(out, Absence{Peer: p.Members[i].ID, Attempt: attemptOf(p.key.Attempt), Phase: f.phase, Why: why})
	}
	for _, i := range f.dead {
		add(i, "connection lost or silent")
	}
	took := (m.now - m.lead.from).Round(time.Millisecond)
	for _, i := range f.mute {
		switch {
		case slices.Contains(f.dead, i):
		case m.lead.acks[i] != nil:
			add(i, "members have different bytes of its chunks")
		case f.why != "":
			add(i, f.why)
		default:
			add(i, fmt.Sprintf("no report after %v", took))
		}
	}
	for _, i := range f.late {
		if slices.Contains(f.mute, i) || slices.Contains(f.dead, i) {
			continue
		}
		if n, of := m.reached(i); n > 0 {
			out = append(out, Absence{
				Peer: p.Members[i].ID, Attempt: attemptOf(p.key.Attempt), Phase: "send",
				Why: fmt.Sprintf("its work reached %d of %d owners in %v", n, of, took),
			})
			continue
		}
		add(i, fmt.Sprintf("work not there after %v", took))
	}
	return out
}

// reached tells how many owners have everything of what a member made, of those whom it concerns.
func (m *Machine) reached(row int) (n, of int) {
	p := m.job.plan
	for _, o := range p.owning() {
		concerned, all := false, true
		for i, pc := range p.Pieces {
			if p.row(pc.ID, pc.Boot) == row && p.concerns(i, o) {
				_, held := m.lead.haves[o].mark(i)
				concerned, all = true, all && held
			}
		}
		if concerned {
			of++
			if all {
				n++
			}
		}
	}
	return n, of
}

func count(n int) string { return fmt.Sprint(n) }
