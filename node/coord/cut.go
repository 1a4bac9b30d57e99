package coord

import (
	"slices"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/shard"
)

// takeHave notes what an owner holds, under the plan in force.
func (m *Machine) takeHave(o *opened, h *haveMsg) {
	l, p := m.lead, m.job.plan
	if l == nil || p == nil || h.Plan != p.key.Plan || len(h.Pieces) > len(p.Pieces) {
		return
	}
	if n := len(h.Pieces); n > 0 && h.Pieces[n-1].Piece >= len(p.Pieces) {
		return
	}
	if i := p.row(o.signer, o.header.Boot); i >= 0 && !p.Members[i].Syncing {
		l.haves[i], l.news = h, true
	}
}

// owning lists the rows that own a chunk under the plan in force.
func (p *planned) owning() (out []int) {
	for _, os := range p.parts.Owners {
		if !slices.Contains(out, os[0]) {
			out = append(out, os[0])
		}
	}
	slices.Sort(out)
	return out
}

// mark finds piece i in a Have.
func (h *haveMsg) mark(i int) (CutMark, bool) {
	if h == nil {
		return CutMark{}, false
	}
	at, ok := slices.BinarySearchFunc(h.Pieces, i, func(k CutMark, i int) int { return k.Piece - i }) // see check
	if !ok {
		return CutMark{}, false
	}
	return h.Pieces[at], true
}

// heldBy tells in how many owners' Haves piece i is, and its mark when they agree about it; all: in those of all whom it
// concerns.
func (m *Machine) heldBy(i int, owners []int) (k CutMark, n int, all bool) {
	all = true
	for _, o := range owners {
		if !m.job.plan.concerns(i, o) {
			continue
		}
		got, ok := m.lead.haves[o].mark(i)
		if !ok || n > 0 && got != k {
			all = false
			continue
		}
		k = got
		n++
	}
	return k, n, all
}

// driveCut proposes the cut once pieces that every owner holds cover the batch; at the deadline, or when a member that
// is needed is gone, it goes on to the next attempt.
func (m *Machine) driveCut() {
	p := m.job.plan
	owners := p.owning()
	if m.g.diloco() {
		m.driveCutOwn(owners)
		return
	}
	if p.flows() {
		m.driveFlow(owners)
		return
	}
	var held []CutMark
	for i := range p.Pieces {
		if k, _, all := m.heldBy(i, owners); all {
			held = append(held, k)
		}
	}
	if set := choose(p, held, m.batch(p.key.Round)); set != nil {
		if m.again(m.spoilt(set, owners)) {
			return
		}
		m.noteArrival()
		m.propose(contextCut, p.key.Round, p.key.Attempt, &CutEntry{Set: set, Totals: m.totalsOf(set, owners)})
		return
	}
	m.watchCollect(owners)
}

// choose picks pieces so that each position of the batch counts once: the earlier attempts first, and if that does not
// come out even, the later ones first. nil: held does not cover the batch.
func choose(p *planned, held []CutMark, batch shard.Range) []CutMark {
	for _, sign := range []int{1, -1} {
		order := slices.Clone(held)
		slices.SortStableFunc(order, func(a, b CutMark) int {
			return sign * (int(p.Pieces[a.Piece].Attempt) - int(p.Pieces[b.Piece].Attempt))
		})
		if set := greedy(p, order, batch); set != nil {
			return set
		}
	}
	return nil
}

func greedy(p *planned, order []CutMark, batch shard.Range) []CutMark {
	var set []CutMark
	var taken []shard.Range
	for _, k := range order {
		rs := p.Pieces[k.Piece].Ranges
		if !overlaps(taken, rs) {
			set, taken = append(set, k), append(taken, rs...)
		}
	}
	if !exactly(taken, batch) {
		return nil
	}
	slices.SortFunc(set, func(a, b CutMark) int { return a.Piece - b.Piece })
	return set
}

func overlaps(as, bs []shard.Range) bool {
	for _, a := range as {
		for _, b := range bs {
			if a.Lo < b.Hi && b.Lo < a.Hi {
				return true
			}
		}
	}
	return false
}

// totalsOf adds up what owners said of exactly this set; nil when one of them has not yet. Pieces are added in plan
// order, owners in member order.
func (m *Machine) totalsOf(set []CutMark, owners []int) *Totals {
	t := &Totals{}
	for _, k := range set {
		t.Weight += k.Weight
		t.Loss += k.Loss
	}
	for _, o := range owners {
		h := m.lead.haves[o]
		if h == nil || !slices.Equal(h.Pieces, m.job.plan.concerning(set, o)) {
			return nil
		}
		t.SumSq += h.SumSq
		t.NonFinite = t.NonFinite || h.NonFinite
	}
	if !finite(t.Loss) || !finite(t.SumSq) { // each was, but not their sum
		*t = Totals{Weight: t.Weight, NonFinite: true}
	}
	return t
}

// driveTotals proposes the totals of a cut that owners had not summed.
func (m *Machine) driveTotals() {
	p := m.job.plan
	if t := m.totalsOf(m.job.cut.Set, p.owning()); t != nil {
		m.propose(contextTotals, p.key.Round, p.key.Attempt, &TotalsEntry{Totals: *t})
		return
	}
	m.watchGather("reduce")
}

// marks is a cut as the collective knows it.
func (p *planned) marks(set []CutMark) []collective.Mark {
	out := make([]collective.Mark, len(set))
	for i, k := range set {
		out[i] = collective.Mark{PieceID: p.parts.Pieces[k.Piece], Weight: k.Weight, Loss: k.Loss}
	}
	return out
}

// counted lists per member the positions of a cut, in plan order.
func (p *planned) counted(c *CutEntry) (out []Contribution) {
	if p.flows() {
		return p.flowCounted(c)
	}
	for _, k := range c.Set {
		pc := p.Pieces[k.Piece]
		if n := len(out); n > 0 && out[n-1].Peer == pc.ID {
			out[n-1].Ranges = append(slices.Clone(out[n-1].Ranges), pc.Ranges...)
			slices.SortFunc(out[n-1].Ranges, byLo)
			continue
		}
		out = append(out, Contribution{Peer: pc.ID, Ranges: pc.Ranges})
	}
	return out
}
