package coord

import (
	"cmp"
	"slices"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Every working member sends its work to every owner, and gets results from them. Two members that cannot connect, and
// can both reach the leader, say so in their beats. The leader then plans so that no working member needs an owner it
// cannot reach: both stand aside, which is to work and own nothing. Who cannot reach most of the owners does not work.
// Somebody else owns what they did; that costs bandwidth, and an attempt only in the round in which it was found out.

// Unreached names the members that this node's chunks do not get through to, all of them; empty: none.
type Unreached struct{ IDs []record.PeerID }

func (Unreached) event() {}

const (
	maxApart     = 64        // names in a beat; who has more is as good as cut off
	phaseConnect = "connect" // of an Absence
)

// unreached tells the leader at once.
func (m *Machine) unreached(e Unreached) {
	ids := slices.DeleteFunc(slices.Clone(e.IDs), func(id record.PeerID) bool { return id == m.self.ID || checkID(id) != nil })
	slices.Sort(ids)
	ids = slices.Compact(ids)
	ids = ids[:min(len(ids), maxApart)]
	if !slices.Equal(ids, m.me.apart) {
		m.me.apart = ids
		m.beat()
	}
}

// heardApart notes what a member, or this node, says it cannot reach.
func (m *Machine) heardApart(p *peer, ids []record.PeerID) {
	if m.lead != nil && !slices.Equal(p.apart, ids) {
		m.lead.apartAt = m.now
	}
	p.apart = ids
}

// apart decides who of the rows stands aside, or does not work.
func (m *Machine) apart(rows []Row) []Row {
	m.asideRelayed(rows)
	cuts := m.cuts(rows)
	for {
		x, lost := m.worst(rows, cuts)
		owners := able(rows)
		switch {
		case x < 0:
			return rows
		case !rows[x].Aside && len(owners) > 1:
			rows[x].Aside = true
		case !rows[x].Aside: // nobody else can own
			for _, i := range lost {
				rows[i].Syncing, rows[i].Aside = true, false
			}
		case 2*len(lost) <= len(owners):
			for _, i := range lost {
				rows[i].Aside = true
			}
		default:
			rows[x].Syncing, rows[x].Aside = true, false
		}
	}
}

// asideRelayed lets nobody own who is reached through relays alone, where two others work.
func (m *Machine) asideRelayed(rows []Row) {
	var relayed []int
	all := working(rows)
	for _, i := range all {
		if p := m.peers.find(rows[i].ID); p != nil && p.cap.Relayed {
			relayed = append(relayed, i)
		}
	}
	if len(all)-len(relayed) < 2 {
		return
	}
	for _, i := range relayed {
		rows[i].Aside = true
	}
}

// cut is two rows that cannot reach each other.
type cut struct{ a, b int }

// cuts lists the pairs of working rows of which one says that it cannot reach the other, though both are there.
func (m *Machine) cuts(rows []Row) (out []cut) {
	for _, p := range m.peers.peers {
		if len(p.apart) == 0 || !m.peers.lives(p.id, p.boot, m.now) {
			continue
		}
		a := workingRow(rows, p.id)
		for _, id := range p.apart {
			b := workingRow(rows, id)
			if a < 0 || b < 0 || a == b || !m.peers.lives(id, rows[b].Boot, m.now) {
				continue
			}
			if c := (cut{min(a, b), max(a, b)}); !slices.Contains(out, c) {
				out = append(out, c)
			}
		}
	}
	return out
}

func workingRow(rows []Row, id record.PeerID) int {
	return slices.IndexFunc(rows, func(r Row) bool { return r.ID == id && !r.Syncing })
}

// worst is the row that most cuts stand in the way of, and whom it should reach: of equals the worse connected, then the
// one that stands last. -1: no cut is in the way of anything.
func (m *Machine) worst(rows []Row, cuts []cut) (x int, lost []int) {
	from := map[int][]int{}
	for _, c := range cuts {
		a, b := rows[c.a], rows[c.b]
		if !a.Syncing && !b.Syncing && !(a.Aside && b.Aside) {
			from[c.a], from[c.b] = append(from[c.a], c.b), append(from[c.b], c.a)
		}
	}
	x = -1
	for i := range rows {
		if len(from[i]) == 0 {
			continue
		}
		if x < 0 || cmp.Or(cmp.Compare(len(from[i]), len(from[x])), cmp.Compare(m.uplink(rows[x]), m.uplink(rows[i]))) >= 0 {
			x = i
		}
	}
	return x, from[x]
}

// uplink is the rate at which a member can send; 0: unknown.
func (m *Machine) uplink(r Row) float64 {
	if p := m.peers.find(r.ID); p != nil {
		return p.cap.BytesPerSec
	}
	return 0
}

// partedFrom tells whether a piece of the plan does not get through to one of its owners. It is not worth more than a few
// attempts: reports that keep changing have to wait for the deadline. They come one by one, so it waits for the next one.
func (m *Machine) partedFrom(owners []int) bool {
	p := m.job.plan
	if attemptOf(p.key.Attempt) >= maxAdding || m.now < m.lead.apartAt+deadGrace {
		return false
	}
	for _, c := range m.cuts(p.Members) {
		if slices.Contains(owners, c.a) && m.lacks(c.a, c.b) || slices.Contains(owners, c.b) && m.lacks(c.b, c.a) {
			return true
		}
	}
	return false
}

// setAside lists the rows of the plan in force that may own, and may not under new rows.
func (m *Machine) setAside(rows []Row) (out []int) {
	now := map[record.PeerID]bool{}
	for _, i := range able(rows) {
		now[rows[i].ID] = true
	}
	for _, i := range able(m.job.plan.Members) {
		if !now[m.job.plan.Members[i].ID] {
			out = append(out, i)
		}
	}
	return out
}

// cutOff tells whether a maker of pieces does not work under new rows because it cannot reach somebody who does: what it
// made does not get to them.
func (m *Machine) cutOff(maker int, rows []Row) bool {
	if maker < 0 {
		return false
	}
	id := m.job.plan.Members[maker].ID
	if workingRow(rows, id) >= 0 {
		return false
	}
	return slices.ContainsFunc(m.cuts(m.job.plan.Members), func(c cut) bool {
		a, b := m.job.plan.Members[c.a].ID, m.job.plan.Members[c.b].ID
		return a == id && workingRow(rows, b) >= 0 || b == id && workingRow(rows, a) >= 0
	})
}

// lacks tells whether an owner has not reported a piece of a member.
func (m *Machine) lacks(owner, member int) bool {
	p := m.job.plan
	for i, pc := range p.Pieces {
		if pc.ID == p.Members[member].ID && p.concerns(i, owner) {
			if _, ok := m.lead.haves[owner].mark(i); !ok {
				return true
			}
		}
	}
	return false
}

// withParted adds to a plan's reasons why members own nothing, or do not work, because of pairs that cannot connect.
func (m *Machine) withParted(out []Absence, d draft) []Absence {
	all := slices.Clone(d.rows)
	for i := range all {
		all[i].Syncing = false
	}
	for _, c := range m.cuts(all) {
		for _, k := range []cut{c, {c.b, c.a}} {
			r := d.rows[k.a]
			why := "cannot reach " + string(d.rows[k.b].ID)
			switch {
			case r.Aside:
				why += ", owns nothing"
			case !r.Syncing || d.rows[k.b].Syncing:
				continue
			}
			a := Absence{Peer: r.ID, Attempt: attemptOf(d.attempt), Phase: phaseConnect, Why: why}
			if said(out, a) {
				continue
			}
			out = append(slices.Clip(out), a)
			if p := m.job.plan; p == nil || !said(p.Absent, a) {
				m.note("round %d goes to attempt %d: %s: %s", d.round, attemptOf(d.attempt)+1, a.Peer, a.Why)
			}
		}
	}
	return out
}

func said(as []Absence, a Absence) bool {
	return slices.ContainsFunc(as, func(b Absence) bool { return b.Peer == a.Peer && b.Phase == a.Phase && b.Why == a.Why })
}
