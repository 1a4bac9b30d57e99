package coord

import (
	"slices"

	"github.com/seed-7b27c88a/shoal/shard"
)

// spoilt lists the pieces of a set that some owner found not to be finite, in plan order, and that nobody has computed
// once more yet.
func (m *Machine) spoilt(set []CutMark, owners []int) (out []int) {
	if !m.g.Again {
		return nil
	}
	for _, k := range set {
		if m.job.plan.Pieces[k.Piece].Again {
			continue
		}
		for _, o := range owners {
			if m.lead.haves[o].isSpoilt(k.Piece) {
				out = append(out, k.Piece)
				break
			}
		}
	}
	return out
}

func (h *haveMsg) isSpoilt(piece int) bool {
	for _, i := range h.Spoilt {
		if h.Pieces[i].Piece == piece {
			return true
		}
	}
	return false
}

// again plans an attempt in which other members compute pieces once more that are not finite: a machine may be at fault,
// not the data. What they find counts. It returns false when there is nobody else.
func (m *Machine) again(bad []int) bool {
	if len(bad) == 0 {
		return false
	}
	p := m.job.plan
	d := draft{round: p.key.Round, attempt: p.key.Attempt + 1, slower: m.lead.tries, rows: m.rowsWithout(fault{}), base: p.base(), shares: p.Shares}
	d.absent = slices.Clone(p.Absent)
	parts := map[int][]shard.Range{} // by row
	var moved []int
	for _, i := range bad {
		pc := p.Pieces[i]
		others := slices.DeleteFunc(working(d.rows), func(r int) bool { return d.rows[r].ID == pc.ID })
		if len(others) == 0 {
			continue
		}
		for k, rs := range m.assign(d.round, pc.Ranges, d.rows, others) {
			parts[others[k]] = append(parts[others[k]], rs...)
		}
		moved = append(moved, i)
		d.absent = append(d.absent, Absence{
			Peer: pc.ID, Attempt: attemptOf(p.key.Attempt), Phase: "work", Why: "its numbers are not finite; others compute them once more",
		})
	}
	if len(moved) == 0 {
		return false
	}
	for i, pc := range p.Pieces {
		if !slices.Contains(moved, i) {
			d.kept = append(d.kept, pc)
		}
	}
	for r, row := range d.rows {
		if rs := parts[r]; len(rs) > 0 {
			slices.SortFunc(rs, byLo)
			d.again = append(d.again, Piece{Attempt: d.attempt, ID: row.ID, Boot: row.Boot, Ranges: rs, Again: true})
		}
	}
	m.goOn(d, fault{})
	return true
}
