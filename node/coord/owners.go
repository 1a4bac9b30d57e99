package coord

import (
	"cmp"
	"slices"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard/layout"
)

// successors is how many members stand behind a chunk's owner in a plan.
const successors = 2

// parts is the plan as the collective needs it: with the owners that follow from its members.
func (m *Machine) parts(b *PlanEntry, key collective.Key) *collective.Plan {
	if b.made == nil || b.made.Key != key {
		b.made = m.makeParts(b, key)
	}
	return b.made
}

func (m *Machine) makeParts(b *PlanEntry, key collective.Key) *collective.Plan {
	p := &collective.Plan{Key: key, Chunks: m.g.Chunks, OwnersStep: m.g.OwnersStep, Weights: m.g.Weights}
	p.Codec, _ = exact.Parse(b.Codec) // entries are checked when they come in
	for _, r := range b.Members {
		p.Members = append(p.Members, collective.Member{ID: r.ID, Boot: r.Boot, Syncing: r.Syncing})
	}
	for _, pc := range b.Pieces {
		p.Pieces = append(p.Pieces, collective.PieceID{Round: key.Round, Attempt: pc.Attempt, Member: pc.ID, Boot: pc.Boot})
	}
	p.Owners = m.owners(b)
	if b.flows() {
		for _, r := range b.Members {
			p.Stage = append(p.Stage, r.Stage)
		}
		p.Covers = collective.Covers(m.g.Pipeline.Of, b.Cuts)
	}
	return p
}

// owners ranks the working members for every chunk: its owner first, then those who take over from it.
func (m *Machine) owners(b *PlanEntry) [][]int {
	row := map[record.PeerID]int{}
	for _, i := range working(b.Members) {
		if !b.Members[i].Aside {
			row[b.Members[i].ID] = i
		}
	}
	out := m.ranked(b.base(), b.Shares, row)
	for c, rank := range out {
		if len(rank) == 0 { // everybody who had it is gone
			return m.ranked(b.ableOwners(), nil, row)
		}
		out[c] = rank[:min(len(rank), 1+successors)]
	}
	return out
}

// ranked is the ranking of base by the layout, as far as they are among row.
func (m *Machine) ranked(base []record.PeerID, shares []byte, row map[record.PeerID]int) [][]int {
	names := make([]string, len(base))
	for i, id := range base {
		names[i] = string(id)
	}
	places := make([]layout.Chunk, m.g.weights())
	for i, c := range m.g.Chunks[:len(places)] {
		places[i] = layout.Chunk{Lo: c.Lo, Hi: c.Hi, Unit: c.Unit}
	}
	by := make([]int, len(shares))
	for i, s := range shares {
		by[i] = int(s)
	}
	out := layout.Shared(places, names, by, cmp.Or(m.g.Slack, layout.Slack))
	for c, rank := range out {
		here := make([]int, 0, len(rank))
		for _, k := range rank {
			if i, ok := row[base[k]]; ok {
				here = append(here, i)
			}
		}
		out[c] = here
	}
	return withTwins(out, len(m.g.Chunks))
}

// ableOwners names the members of a plan that may own chunks, sorted.
func (p *PlanEntry) ableOwners() (ids []record.PeerID) {
	for _, i := range able(p.Members) {
		ids = append(ids, p.Members[i].ID)
	}
	slices.Sort(ids)
	return ids
}

// base names those among whom the chunks are shared out.
func (p *PlanEntry) base() []record.PeerID {
	if len(p.Base) > 0 {
		return p.Base
	}
	return p.ableOwners()
}

// able are the rows that work and may own.
func able(rows []Row) []int {
	return slices.DeleteFunc(working(rows), func(i int) bool { return rows[i].Aside })
}

// bestOwners are the members that may own a chunk in the first attempt, where there are fewer chunks than members: an
// owner sends its chunks to everybody, so that the best connected do it; of equals, who stands first in the plan. nil: all.
func (m *Machine) bestOwners(rows []Row) []record.PeerID {
	able := able(rows)
	if len(able) <= max(len(m.g.Chunks), fewOwners) {
		return nil
	}
	rate := func(i int) float64 {
		if p := m.peers.find(rows[i].ID); p != nil {
			return p.cap.BytesPerSec
		}
		return 0
	}
	slices.SortStableFunc(able, func(a, b int) int { return cmp.Compare(rate(b), rate(a)) })
	ids := make([]record.PeerID, max(len(m.g.Chunks), fewOwners))
	for k := range ids {
		ids[k] = rows[able[k]].ID
	}
	slices.Sort(ids)
	return ids
}

// fewOwners is how many members share the chunks at least, where there are as many: an owner and its successors.
const fewOwners = 2 * (1 + successors)
