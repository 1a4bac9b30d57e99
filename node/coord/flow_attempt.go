package coord

import (
	"slices"
	"strings"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
)

// nextFlow plans the round of a pipeline again: after the seal with the pieces that are there, if all are; before it with
// the same pipe without those that are lost, if each stage keeps a member; else afresh, or not at all while a stage waits for one.
func (m *Machine) nextFlow(f fault) {
	p := m.job.plan
	d := draft{round: p.key.Round, attempt: p.key.Attempt + 1, slower: m.lead.tries, cursor: m.job.cursor, absent: m.absentNow(f)}
	if f.timed {
		d.slower++
	}
	d.rows = m.rowsWithout(f)
	goes := false
	if positions := m.final(); positions != nil {
		goes = m.keepSealed(&d, f, positions)
	} else if !f.broken && !m.lead.flow.anySealed() && !m.lead.flow.twice {
		goes = m.keepFlowing(&d)
	}
	spent := f.timed && m.lead.tries >= maxExtensions
	switch {
	case goes && !spent && !f.moves():
		m.extend(f)
	case goes && !spent:
		d.begun, d.cuts, d.delay = p.begun(), p.Cuts, p.Delay
		m.goOn(d, f)
	default:
		m.afresh(d, f)
	}
}

// begun is what a plan that goes on with this one's pipe says of it.
func (p *planned) begun() *Begun {
	if p.Begun != nil {
		return p.Begun
	}
	return &Begun{Attempt: p.key.Attempt, Plan: p.key.Plan, Seats: p.seats()}
}

// keepFlowing lets the pipe go on with those that still work in it.
func (m *Machine) keepFlowing(d *draft) bool {
	p := m.job.plan
	left := make([]bool, len(p.Cuts))
	for i, r := range d.rows {
		k := findRow(p.Members, r)
		if k >= 0 && !r.Syncing && p.Members[k].Stage > 0 {
			d.rows[i].Stage, d.rows[i].Pace = p.Members[k].Stage, p.Members[k].Pace
			left[d.rows[i].Stage] = true
		}
	}
	settle(d.rows)
	return !slices.Contains(left[1:], false)
}

// keepSealed lists the pieces with what they hold, if all of them may still count. Who made one and is gone stays among
// the members, receiving nothing, so that its stage is known.
func (m *Machine) keepSealed(d *draft, f fault, positions [][]shard.Range) bool {
	p := m.job.plan
	var gone []Row
	for i, pc := range p.Pieces {
		if len(positions[i]) == 0 {
			continue
		}
		if keep, certain := m.prospect(i, f, d.rows); !keep || !certain {
			return false
		}
		maker := Row{ID: pc.ID, Boot: pc.Boot, Stage: p.stageOf(pc), Syncing: true}
		if findRow(d.rows, maker) < 0 {
			if slices.ContainsFunc(d.rows, func(r Row) bool { return r.ID == pc.ID }) {
				return false // it runs anew
			}
			gone = append(gone, maker)
		}
		pc.Ranges = positions[i]
		d.kept = append(d.kept, pc)
	}
	for i, r := range d.rows {
		if k := findRow(p.Members, r); k >= 0 {
			d.rows[i].Stage, d.rows[i].Pace = p.Members[k].Stage, p.Members[k].Pace
		}
	}
	settle(d.rows)
	d.rows = append(d.rows, gone...)
	return len(able(d.rows)) > 0 && len(d.kept) > 0
}

// afresh begins the round's pipe anew, without those that stood in the way if that is possible. While a stage cannot be
// held the plan in force stays, and the job waits.
func (m *Machine) afresh(d draft, f fault) {
	all := f
	f.mute, f.late = nil, nil
	d.rows = m.rowsWithout(f)
	var bad []record.PeerID
	for _, i := range slices.Concat(all.mute, all.late) {
		bad = append(bad, m.job.plan.Members[i].ID)
	}
	d.kept, d.begun = nil, nil
	err := m.place(&d, rowsBut(d.rows, bad))
	if err != nil && len(bad) > 0 {
		err = m.place(&d, rowsBut(d.rows, nil))
	}
	if err != nil {
		m.waitFor(clipText("waiting: " + err.Error()))
		return
	}
	m.waitFor("")
	m.goOn(d, all)
}

// clipText is as much of s as a reason may have; what stands in a record is valid UTF-8.
func clipText(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "") }
