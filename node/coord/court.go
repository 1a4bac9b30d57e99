package coord

import (
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

const (
	grace      = 15 * time.Second // without a living majority before a member asks for a Reset
	courtEvery = time.Second      // how often it asks
	courtFresh = 3 * time.Second  // how long an answer counts
	courtWait  = 1500 * time.Millisecond
	courtLong  = 10 * time.Second // how long to wait for members that may hold newer bytes
)

// court is the procedure of a member that sees no living majority: it asks every member it knows of, by peer id, and if
// nobody sees one, the first of them in member order writes the Reset.
type court struct {
	since     time.Duration
	restarted bool // this process is new, so the old keepers may be as well
	asked     time.Duration
	answers   []answer
	draft     *record.Signed // the Reset written here, waiting for signatures
	drafted   time.Duration
	cid       cid.Cid
	entry     *ResetEntry
	sigs      []*record.Signed
	told      bool // that it waits
}

type answer struct {
	id   record.PeerID
	boot uint64
	at   time.Duration
	standing
}

// lost tells that this node sees no living majority of keepers.
func (m *Machine) lost() bool {
	if m.lead != nil || m.seat != nil && m.seat.Leader().ID != "" {
		return false
	}
	return m.court != nil && m.court.restarted && m.guide.heard == 0 || m.now >= m.guide.heard+slot
}

// stranded tells that this node leads a job that cannot go on: for the grace nobody there has had the state of the newest
// commit. Its leader then holds court as if the keepers were lost, and the keepers agree to go back.
func (m *Machine) stranded() bool {
	l := m.lead
	if l == nil || m.job.round == 0 || len(m.readyAt(m.job.round)) > 0 {
		if l != nil {
			l.barren = m.now
		}
		return false
	}
	return m.now >= l.barren+grace
}

// tickCourt begins, carries on and ends the procedure.
func (m *Machine) tickCourt() {
	if m.lead != nil || m.seat != nil && m.seat.Leader().ID != "" {
		m.guide.heard = m.now
	}
	if m.job.ended || m.over != "" || !m.job.head.Defined() || m.outdated() {
		m.court = nil
		return
	}
	stranded := m.stranded() || m.turningBack()
	switch {
	case m.court == nil:
		if m.now >= m.guide.heard+grace || stranded {
			m.court = &court{since: m.now}
		}
		return
	case !m.lost() && !stranded:
		m.court = nil
		return
	}
	if c := m.court; c.asked == 0 || m.now >= c.asked+courtEvery {
		c.asked = m.now
		for _, id := range m.jury() {
			if id != m.self.ID {
				m.send(id, m.header(contextStanding, m.job.round, 0), m.standing(true))
			}
		}
	}
	m.judge()
}

// jury is every member of the newest commit and of the plan in force, every keeper and who holds the checkpoint. Its
// order begins with what all who know the newest commit agree on: the members planned in it.
func (m *Machine) jury() (ids []record.PeerID) {
	add := func(id record.PeerID) {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if c, ok := m.job.at(m.job.round); ok && c.entry != nil {
		if c.entry.Plan != nil {
			for _, r := range c.entry.Plan.Members {
				add(r.ID)
			}
		}
		for _, n := range c.entry.Counted {
			add(n.Peer)
		}
	}
	for _, k := range m.job.keepers {
		add(k.ID)
	}
	if p := m.job.plan; p != nil {
		for _, r := range p.Members {
			add(r.ID)
		}
	}
	for _, id := range m.job.lastSettled().Holders {
		add(id)
	}
	add(m.self.ID)
	return ids
}

// hearStanding notes an answer. One member that sees a majority ends the procedure: it knows the leader.
func (m *Machine) hearStanding(o *opened, s *standing) {
	if m.court == nil {
		return
	}
	if !s.Lost && m.lead == nil {
		m.guide.heard = max(m.guide.heard, m.now-grace/2)
		m.court = nil
		m.sendBeat(o.signer, false)
		return
	}
	a := answer{o.signer, o.header.Boot, m.now, *s}
	for i := range m.court.answers {
		if m.court.answers[i].id == o.signer {
			m.court.answers[i] = a
			return
		}
	}
	if len(m.court.answers) < maxMembers {
		m.court.answers = append(m.court.answers, a)
	}
}

// present are the jurors that answered lately, this node included, in the jury's order.
func (m *Machine) present() (out []answer) {
	for _, id := range m.jury() {
		if id == m.self.ID {
			out = append(out, answer{id, m.self.Boot, m.now, m.standing(false)})
			continue
		}
		for _, a := range m.court.answers {
			if a.id == id && m.now < a.at+courtFresh {
				out = append(out, a)
			}
		}
	}
	return out
}

// judge writes the Reset when it is this node's turn.
func (m *Machine) judge() {
	c := m.court
	if m.now < c.since+courtWait {
		return
	}
	if c.draft != nil {
		m.finishDraft()
		return
	}
	here := m.present()
	regular := m.regularBy(here)
	if m.lead != nil {
		regular = m.hasOldMajority(m.benchOf(here, true))
		if m.turningBack() && !regular {
			return // the job is not in need: those who agree will be more
		}
	} else if !regular && (m.now < m.guide.heard+grace || m.oldMajority(here)) {
		return
	}
	for _, a := range here {
		if a.Round > m.job.round {
			return // its entries are on their way here
		}
	}
	first := slices.IndexFunc(here, func(a answer) bool { return a.Asking })
	if m.lead == nil && here[first].id != m.self.ID {
		return
	}
	parent, ok := m.parentBy(here)
	if !ok {
		return
	}
	m.draftReset(here, parent, regular)
}

// regularBy tells whether more than half of the old keepers' peer ids are here, and some of them anew, so that the old
// log can have no majority any more.
func (m *Machine) regularBy(here []answer) bool {
	ids, runs := m.oldKeepers(here)
	n := len(m.job.keepers)
	return 2*ids > n && 2*(n-(ids-runs)) <= n
}

// oldMajority tells whether the old keepers here could still agree among themselves: then their election has to come out.
func (m *Machine) oldMajority(here []answer) bool {
	_, runs := m.oldKeepers(here)
	return 2*runs > len(m.job.keepers) && m.now < m.guide.heard+2*grace
}

// oldKeepers counts the keepers here by peer id, and those of them whose run is still the same.
func (m *Machine) oldKeepers(here []answer) (ids, runs int) {
	for _, k := range m.job.keepers {
		for _, a := range here {
			if a.id == k.ID {
				ids++
				if a.boot == k.Boot {
					runs++
				}
			}
		}
	}
	return ids, runs
}

// parentBy is the commit to go on from: the newest, if one of those here has its state; else the newest settled
// checkpoint that one of them keeps; else the beginning, if nothing was ever settled.
func (m *Machine) parentBy(here []answer) (commitAt, bool) {
	j := m.job
	newest, _ := j.at(j.round)
	for _, a := range here {
		if !m.turningBack() && a.Ready && a.AtRound == j.round && a.At == j.commit {
			return newest, true
		}
	}
	if !m.turningBack() && m.now < m.court.since+courtLong && len(here) < len(m.jury()) {
		return commitAt{}, false // a member that has the newest state may come yet
	}
	s := j.lastSettled()
	if m.turningBack() {
		s = j.soundCheckpoint()
	}
	if s.Round == 0 {
		return commitAt{}, true
	}
	for _, a := range here {
		if a.Keeps == s.Manifest || m.turningBack() && slices.Contains(s.Holders, a.id) {
			return commitAt{round: s.Round, cid: s.Commit, tokens: s.Tokens, cursor: cursor{s.Next, s.Open}}, true
		}
	}
	if !m.court.told {
		m.court.told = true
		m.note("waiting for a node that has the checkpoint of round %d", s.Round)
	}
	return commitAt{}, false
}
