package coord

import (
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/shard"
)

// DiLoCo (Douillard et al. 2023, arXiv:2311.08105): in a round every working member takes about Genesis.Inner optimizer
// steps from the shared weights, each on Genesis.Batch positions of its own, so that all are done at about the same time;
// what is reduced is the mean of what they changed, weighted by target tokens. The round closes with what every owner
// holds when no living member has to come any more, or at the deadline. Positions that did not count are open again: the
// cursor in the commit says which, and a later plan hands them out before new ones. The job is over when none is left.

// diloco tells whether members work on their own between rounds.
func (g *Genesis) diloco() bool { return g.Inner > 0 }

// maxOpen is how many ranges of the stream may be open behind a cursor. A round opens at most one per worker.
const maxOpen = 2 * maxMembers

// cursor says which positions of the stream are not taken: those from next on, and the open ones before it.
type cursor struct {
	next uint64
	open []shard.Range // sorted, apart, none touches another
}

// afterRound is the cursor of an allreduce job.
func (g *Genesis) afterRound(round uint64) cursor {
	if round == 0 {
		return cursor{}
	}
	return cursor{next: g.batch(round).Hi}
}

// done tells whether nothing is left to work on.
func (c cursor) done(g *Genesis) bool { return c.next >= g.Samples && len(c.open) == 0 }

// taken is the number of positions that counted.
func (c cursor) taken() uint64 {
	n := c.next
	for _, r := range c.open {
		n -= r.Len()
	}
	return n
}

// free lists what can be handed out, sorted and apart.
func (c cursor) free(g *Genesis) []shard.Range {
	return merged(append(slices.Clone(c.open), shard.Range{Lo: c.next, Hi: max(c.next, g.Samples)}))
}

// after is the cursor once a round counted so many of its plan's pieces.
func (c cursor) after(planned []Piece, counted []Contribution) cursor {
	end := c.next
	for _, pc := range planned {
		end = max(end, pc.Ranges[len(pc.Ranges)-1].Hi)
	}
	var gone []shard.Range
	for _, n := range counted {
		gone = append(gone, n.Ranges...)
	}
	before := merged(append(slices.Clone(c.open), shard.Range{Lo: c.next, Hi: end}))
	return cursor{next: end, open: minus(before, merged(gone))}
}

func (c cursor) equal(o cursor) bool { return c.next == o.next && slices.Equal(c.open, o.open) }

// merged sorts rs and joins what touches; empty ones go.
func merged(rs []shard.Range) (out []shard.Range) {
	slices.SortFunc(rs, byLo)
	for _, r := range rs {
		switch n := len(out); {
		case r.Len() == 0:
		case n > 0 && r.Lo <= out[n-1].Hi:
			out[n-1].Hi = max(out[n-1].Hi, r.Hi)
		default:
			out = append(out, r)
		}
	}
	return out
}

// minus is all without gone; both are sorted and apart.
func minus(all, gone []shard.Range) (out []shard.Range) {
	for _, a := range all {
		for len(gone) > 0 && gone[0].Hi <= a.Lo {
			gone = gone[1:]
		}
		for _, g := range gone {
			if g.Lo >= a.Hi {
				break
			}
			if a.Lo < g.Lo {
				out = append(out, shard.Range{Lo: a.Lo, Hi: g.Lo})
			}
			a.Lo = min(g.Hi, a.Hi)
		}
		if a.Lo < a.Hi {
			out = append(out, a)
		}
	}
	return out
}

// within tells whether every range of rs lies in one of all, which are sorted, apart and do not touch, and no two of rs
// overlap.
func within(rs, all []shard.Range) bool {
	slices.SortFunc(rs, byLo)
	for i, r := range rs {
		for len(all) > 0 && all[0].Hi <= r.Lo {
			all = all[1:]
		}
		if len(all) == 0 || r.Lo < all[0].Lo || r.Hi > all[0].Hi || i > 0 && r.Lo < rs[i-1].Hi {
			return false
		}
	}
	return true
}

// own is what the workers of a round get between them: Inner batches each, the open positions first. Where the open
// ranges become too many, fewer workers get them alone.
func (m *Machine) own(d *draft) []shard.Range {
	free, n := d.cursor.free(&m.g), len(d.workers)
	if room := maxOpen - len(d.cursor.open); n > room {
		d.workers = d.workers[:max(1, room)]
		free = d.cursor.open
	}
	head, _ := takeRanges(free, uint64(n)*m.g.Inner*m.g.Batch)
	return head
}

// count64 is the number of positions in rs.
func count64(rs []shard.Range) (n uint64) {
	for _, r := range rs {
		n += r.Len()
	}
	return n
}

// pieceRanges are the positions of all pieces.
func pieceRanges(ps []Piece) (rs []shard.Range) {
	for _, pc := range ps {
		rs = append(rs, pc.Ranges...)
	}
	return rs
}

// driveCutOwn proposes the cut of a diloco round when nobody who lives still has to come, or at the deadline; chunks of
// owners that are gone, or say nothing, go to their successors first.
func (m *Machine) driveCutOwn(owners []int) {
	if !m.looks() {
		return
	}
	held, comes := m.arrivals(owners)
	f := fault{phase: "work", dead: m.gone(), timed: m.overdue(m.job.plan.Collect)}
	switch {
	case len(f.dead) > 0 && m.now < m.lastHeard(f.dead)+deadGrace:
		return // what they had sent may still arrive
	case slices.ContainsFunc(f.dead, func(i int) bool { return slices.Contains(owners, i) }):
	case len(held) > 0 && (!comes || f.timed && 2*len(held) >= m.mostHeld(owners)):
		m.cutOwn(held, owners, f)
		return
	case m.partedFrom(owners):
		f.apart = true
	case !f.timed:
		return
	}
	if f.timed {
		f.mute = m.poorOwners(owners)
	}
	m.nextAttempt(f)
}

// looks tells whether it is worth counting anew what is held: with many members only after a report, and now and then
// because members die.
func (m *Machine) looks() bool {
	l := m.lead
	if len(m.job.plan.Members) > manyPeers && !l.news && m.now < l.looked+lookEvery {
		return false
	}
	l.news, l.looked = false, m.now
	return true
}

const lookEvery = 250 * time.Millisecond

// arrivals are the pieces that every owner holds, and whether a living member's piece is still missing somewhere.
func (m *Machine) arrivals(owners []int) (held []CutMark, comes bool) {
	for i, pc := range m.job.plan.Pieces {
		if k, _, all := m.heldBy(i, owners); all {
			held = append(held, k)
		} else {
			comes = comes || m.peers.lives(pc.ID, pc.Boot, m.now)
		}
	}
	return held, comes
}

// mostHeld is how many pieces the owner has that has most.
func (m *Machine) mostHeld(owners []int) (most int) {
	for _, o := range owners {
		if h := m.lead.haves[o]; h != nil {
			most = max(most, len(h.Pieces))
		}
	}
	return most
}

// poorOwners hold so much less than others that the round would lose most of its work with them.
func (m *Machine) poorOwners(owners []int) (poor []int) {
	most := m.mostHeld(owners)
	for _, o := range owners {
		if h := m.lead.haves[o]; most > 0 && (h == nil || 2*len(h.Pieces) < most) {
			poor = append(poor, o)
		}
	}
	return poor
}

// cutOwn closes the round with what is held. Who lives and was not done is late: it gets less to do.
func (m *Machine) cutOwn(held []CutMark, owners []int, f fault) {
	p := m.job.plan
	if !f.timed {
		m.noteArrival()
	}
	m.lead.cutAt = m.now - m.lead.began
	for i, pc := range p.Pieces {
		here := slices.ContainsFunc(held, func(k CutMark) bool { return k.Piece == i })
		r := p.row(pc.ID, pc.Boot)
		if here || r < 0 {
			continue
		}
		if m.peers.lives(pc.ID, pc.Boot, m.now) {
			f.late = append(f.late, r)
			m.lead.late[pc.ID] = min(m.lead.late[pc.ID]+1, 3)
		}
	}
	m.lead.missed = m.absentNow(f)
	held = m.sound(held, owners)
	m.propose(contextCut, p.key.Round, p.key.Attempt, &CutEntry{Set: held, Totals: m.totalsOf(held, owners)})
}

// sound is held without what is not finite: that is open again. Where nothing else is there, it counts.
func (m *Machine) sound(held []CutMark, owners []int) []CutMark {
	bad := m.spoilt(held, owners)
	if len(bad) == len(held) {
		return held
	}
	return slices.DeleteFunc(held, func(k CutMark) bool { return slices.Contains(bad, k.Piece) })
}

// nextOwn goes on with an attempt that has other owners. Where no piece may count any more the round starts from nothing.
func (m *Machine) nextOwn(d draft, f fault) {
	if m.thin(d) {
		d.base = m.bestOwners(d.rows)
	}
	if d.kept = m.keepOwn(f, d.rows); len(d.kept) == 0 {
		d.base = nil
		m.wholeBatch(&d)
	} else if !f.moves() {
		m.extend(f)
		return
	}
	m.goOn(d, f)
}

// thin tells whether so few of those that may own are left that others have to help them.
func (m *Machine) thin(d draft) bool {
	left := 0
	for _, i := range working(d.rows) {
		if slices.Contains(d.base, d.rows[i].ID) {
			left++
		}
	}
	return 2*left < len(d.base)
}

// keepOwn lists the pieces that may still count in the next attempt at a diloco round: those whose makers still work, and
// those that every remaining owner holds. Nothing is done again: what does not come is open after the round.
func (m *Machine) keepOwn(f fault, rows []Row) (kept []Piece) {
	for i, pc := range m.job.plan.Pieces {
		if keep, _ := m.prospect(i, f, rows); keep {
			kept = append(kept, pc)
		}
	}
	return kept
}

// ownDeadline is when the slowest should be through, by what was seen in rounds that ended by themselves and by what
// members say of themselves. It is nearer than that of allreduce, where a late member's work has to be done by others:
// here only its own is at stake.
func (t *timing) ownDeadline(work, send time.Duration) time.Duration {
	d := 2*work + max(firstCollect, 2*send)
	if len(t.took) >= timingEnough {
		med := median(t.took)
		dev := make([]time.Duration, len(t.took))
		for i, x := range t.took {
			dev[i] = (x - med).Abs()
		}
		d = max(med+med/4+deadlineK*median(dev)+leastWait, work+work/4+2*send+leastWait)
	}
	return d
}
