package coord

import (
	"fmt"
	"slices"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// pack is body as it stands in a record: pieces name their makers by their places.
func pack(body checked) checked {
	switch b := body.(type) {
	case *PlanEntry:
		return b.packed()
	case *CommitEntry:
		if b.Plan != nil {
			c := *b
			c.Plan = b.Plan.packed()
			return &c
		}
	}
	return body
}

// unpack undoes pack.
func unpack(body checked) error {
	switch b := body.(type) {
	case *PlanEntry:
		return b.unpack()
	case *CommitEntry:
		if b.Plan != nil {
			return b.Plan.unpack()
		}
	}
	return nil
}

func (p *PlanEntry) packed() *PlanEntry {
	type run struct {
		id   record.PeerID
		boot uint64
	}
	places := make(map[run]uint32, len(p.Members))
	for i, r := range p.Members {
		places[run{r.ID, r.Boot}] = uint32(i + 1)
	}
	out := *p
	out.Pieces = slices.Clone(p.Pieces)
	for i, pc := range out.Pieces {
		if row := places[run{pc.ID, pc.Boot}]; row > 0 {
			out.Pieces[i].ID, out.Pieces[i].Boot, out.Pieces[i].Row = "", 0, row
		}
	}
	return &out
}

func (p *PlanEntry) unpack() error {
	for i := range p.Pieces {
		pc := &p.Pieces[i]
		if pc.Row == 0 {
			continue
		}
		if int(pc.Row) > len(p.Members) || pc.ID != "" || pc.Boot != 0 {
			return fmt.Errorf("piece %d of row %d among %d", i, pc.Row, len(p.Members))
		}
		m := p.Members[pc.Row-1]
		pc.ID, pc.Boot, pc.Row = m.ID, m.Boot, 0
	}
	return nil
}
