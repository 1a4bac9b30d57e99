package coord

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
)

// successors is how many members stand behind a chunk's owner in a plan.
const successors = 2

// parts is the plan as the collective needs it: with the owners that follow from its members.
func (m *Machine) parts(b *PlanEntry, key collective.Key) *collective.Plan {
	p := &collective.Plan{Key: key, Chunks: m.g.Chunks}
	var working []int
	for i, r := range b.Members {
		p.Members = append(p.Members, collective.Member{ID: r.ID, Boot: r.Boot, Syncing: r.Syncing})
		if !r.Syncing {
			working = append(working, i)
		}
	}
	for _, pc := range b.Pieces {
		p.Pieces = append(p.Pieces, collective.PieceID{Round: key.Round, Attempt: pc.Attempt, Member: pc.ID, Boot: pc.Boot})
	}
	p.Owners = owners(m.g.Chunks, b.Members, working)
	return p
}

// owners ranks the working members for every chunk by rendezvous hashing, so that a member that leaves moves its own
// chunks alone, and hands the largest chunks out first, each to the best ranked member that has not had its share.
func owners(chunks []collective.Chunk, rows []Row, working []int) [][]int {
	total := 0
	order := make([]int, len(chunks))
	for i, c := range chunks {
		order[i] = i
		total += c.Hi - c.Lo
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(chunks[b].Hi-chunks[b].Lo, chunks[a].Hi-chunks[a].Lo) })
	share := (total + len(working) - 1) / len(working)
	load := make([]int, len(rows))
	out := make([][]int, len(chunks))
	for _, c := range order {
		rank := ranking(c, rows, working)
		first := slices.IndexFunc(rank, func(i int) bool { return load[i] < share })
		load[rank[first]] += chunks[c].Hi - chunks[c].Lo
		owner := rank[first]
		rank = slices.Insert(slices.Delete(rank, first, first+1), 0, owner)
		out[c] = rank[:min(len(rank), 1+successors)]
	}
	return out
}

// ranking orders working members by the hash of (chunk, member).
func ranking(chunk int, rows []Row, working []int) []int {
	score := make(map[int]uint64, len(working))
	for _, i := range working {
		score[i] = hash64(chunk, rows[i])
	}
	rank := slices.Clone(working)
	slices.SortFunc(rank, func(a, b int) int {
		return cmp.Or(cmp.Compare(score[b], score[a]), cmp.Compare(rows[a].ID, rows[b].ID))
	})
	return rank
}

func hash64(chunk int, r Row) uint64 {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, 80), uint64(chunk))
	sum := sha256.Sum256(append(b, r.ID...))
	return binary.LittleEndian.Uint64(sum[:])
}
