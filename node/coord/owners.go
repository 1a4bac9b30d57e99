package coord

import (
	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/shard/layout"
)

// successors is how many members stand behind a chunk's owner in a plan.
const successors = 2

// parts is the plan as the collective needs it: with the owners that follow from its members.
func (m *Machine) parts(b *PlanEntry, key collective.Key) *collective.Plan {
	p := &collective.Plan{Key: key, Chunks: m.g.Chunks}
	for _, r := range b.Members {
		p.Members = append(p.Members, collective.Member{ID: r.ID, Boot: r.Boot, Syncing: r.Syncing})
	}
	for _, pc := range b.Pieces {
		p.Pieces = append(p.Pieces, collective.PieceID{Round: key.Round, Attempt: pc.Attempt, Member: pc.ID, Boot: pc.Boot})
	}
	p.Owners = owners(m.g.Chunks, b.Members)
	return p
}

// owners ranks the working members for every chunk: its owner first, then those who take over from it.
func owners(chunks []collective.Chunk, rows []Row) [][]int {
	able := working(rows)
	names := make([]string, len(able))
	for i, w := range able {
		names[i] = string(rows[w].ID)
	}
	places := make([]layout.Chunk, len(chunks))
	for i, c := range chunks {
		places[i] = layout.Chunk{Lo: c.Lo, Hi: c.Hi, Unit: c.Unit}
	}
	out := layout.Owners(places, names)
	for c, rank := range out {
		out[c] = rank[:min(len(rank), 1+successors)]
		for i, k := range out[c] {
			out[c][i] = able[k]
		}
	}
	return out
}
