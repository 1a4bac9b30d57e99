package coord

import (
	"cmp"
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/replog"
)

// keeperGone is how long a keeper may be silent before it is replaced.
const keeperGone = 3 * slot

// driveKeepers changes who votes, when that is due: the voters of the log first have to be the keepers last agreed on.
func (m *Machine) driveKeepers() bool {
	if m.job.keepers[0].Boot == 0 { // generation 0 begins with a name alone
		m.propose(contextMembers, m.job.round, 0, &MembersEntry{Keepers: []replog.Voter{m.voter()}, Why: "the job begins"})
		return true
	}
	if !sameVoters(m.seat.Voters(), m.job.keepers) {
		return false
	}
	want, why := m.keepersWanted()
	if why == "" || sameVoters(want, m.job.keepers) {
		return m.handOver()
	}
	m.note("keepers: %s", why)
	m.propose(contextMembers, m.job.round, 0, &MembersEntry{Keepers: want, Why: why})
	return true
}

func sameVoters(as, bs []replog.Voter) bool {
	if len(as) != len(bs) {
		return false
	}
	for _, a := range as {
		if !slices.Contains(bs, a) {
			return false
		}
	}
	return true
}

// keepersWanted is who should keep the log, and why that differs from who does. An empty reason: it does not.
func (m *Machine) keepersWanted() (want []replog.Voter, why string) {
	size := keepersFor(len(m.fit()))
	for _, k := range m.job.keepers {
		if m.lostKeeper(k) {
			why = "a keeper is gone"
			continue
		}
		want = append(want, k)
	}
	if len(want) < size && (why != "" || len(m.job.keepers) < size) {
		if why == "" {
			why = "more members are there"
		}
		want = m.addKeepers(want, m.candidates(), size)
	}
	if len(want) > size && why != "" {
		want = m.dropKeepers(want, size)
	}
	if len(want) == 0 {
		return m.job.keepers, ""
	}
	return want, why
}

// keepersFor is how many keepers n members have.
func keepersFor(n int) int {
	switch {
	case n <= 2:
		return 1
	case n <= 4:
		return 3
	case n <= 100:
		return 5
	}
	return maxKeepers
}

// lostKeeper tells whether a keeper has to be replaced: it has been silent for too long, runs anew, or leaves.
func (m *Machine) lostKeeper(k replog.Voter) bool {
	if k == m.voter() {
		return false
	}
	p := m.peers.find(k.ID)
	switch {
	case p == nil:
		return m.now > m.lead.since+keeperGone
	case p.known && p.boot != k.Boot:
		return true
	}
	patience := keeperGone
	if p.down {
		patience = slot // its process has ended, or the network says so
	}
	return p.leaving || m.now > max(p.heard, m.lead.since)+patience
}

// candidates are the nodes that could keep the log, the best first: this one, the submitter, then the longest present. A
// keeper may come to lead, and the leader of many sends much: worse connected nodes come last.
func (m *Machine) candidates() []replog.Voter {
	ps := m.fit()
	least := 0.0
	if len(ps) > manyMembers {
		least = middling(ps)
	}
	slices.SortStableFunc(ps, func(a, b *peer) int {
		return cmp.Or(-compareBool(a.id == m.g.Submitter, b.id == m.g.Submitter),
			compareBool(a.cap.BytesPerSec < least, b.cap.BytesPerSec < least), cmp.Compare(a.since, b.since), cmp.Compare(a.id, b.id))
	})
	var out []replog.Voter
	for _, p := range ps {
		out = append(out, replog.Voter{ID: p.id, Boot: p.boot})
	}
	return out
}

// middling is the rate that half of the nodes have.
func middling(ps []*peer) float64 {
	rates := make([]float64, len(ps))
	for i, p := range ps {
		rates[i] = p.cap.BytesPerSec
	}
	slices.Sort(rates)
	return rates[len(rates)/2]
}

// fit are the nodes that are there and do not leave.
func (m *Machine) fit() []*peer {
	return slices.DeleteFunc(m.peers.alive(m.now), func(p *peer) bool { return p.leaving })
}

func (m *Machine) addKeepers(want, fit []replog.Voter, size int) []replog.Voter {
	for _, v := range fit {
		if len(want) < size && !slices.Contains(want, v) {
			want = append(want, v)
		}
	}
	if len(want)%2 == 0 { // an even number is no better than one less
		want = m.dropKeepers(want, len(want)-1)
	}
	return want
}

// dropKeepers leaves size keepers, this one among them.
func (m *Machine) dropKeepers(want []replog.Voter, size int) []replog.Voter {
	for i := len(want) - 1; i >= 0 && len(want) > max(size, 1); i-- {
		if want[i] != m.voter() {
			want = slices.Delete(slices.Clone(want), i, i+1)
		}
	}
	return want
}

// handOver gives the lead to another keeper: when this node leaves, so that the new leader replaces it, and when its own
// work was late, since a node that is slow to work may be slow to lead.
func (m *Machine) handOver() bool {
	if !m.leaving && !m.lead.yield || m.now < m.me.handed {
		return false
	}
	m.lead.yield = false
	m.me.handed = m.now + time.Second
	for _, k := range m.job.keepers {
		if k != m.voter() && m.peers.lives(k.ID, k.Boot, m.now) && m.lead.late[k.ID] == 0 {
			m.seat.Transfer(k)
			return false
		}
	}
	return m.leaving && m.replaceSelf()
}

// replaceSelf makes another member the keeper when this node is the only one.
func (m *Machine) replaceSelf() bool {
	for _, v := range m.candidates() {
		if v != m.voter() {
			m.propose(contextMembers, m.job.round, 0, &MembersEntry{Keepers: []replog.Voter{v}, Why: "the keeper leaves"})
			return true
		}
	}
	return false
}
