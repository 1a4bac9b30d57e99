package coord

import (
	"slices"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/replog"
)

// goBack carries out a person's order at the submitter: it begins a generation that goes on from a checkpoint, with this
// node as its only keeper, as at the beginning of the job. The others follow when they hear of it, whatever their log says.
func (m *Machine) goBack(e GoBack) {
	j := m.job
	if m.self.ID != m.g.Submitter || e.Order <= j.order() || m.leaving || m.over != "" {
		return
	}
	r := &ResetEntry{
		Keepers: []replog.Voter{m.voter()}, Tokens: e.To.Tokens, Regular: true, Forks: j.forks, Order: e.Order, Moves: j.moves,
	}
	if m.g.diloco() {
		r.Next, r.Open = e.To.Next, e.To.Open
	}
	if e.To.Round > 0 {
		e.To.Regular = true
		earlier := j.settledUpTo(e.To.Round - 1)
		r.Settled = append(earlier[max(0, len(earlier)-1):], e.To)
	}
	h := m.header(contextResetBody, e.To.Round, 0)
	h.Generation, h.Reset, h.Parent = j.gen+1, j.reset, e.To.Commit
	entry, err := m.holdAlone(h, r)
	if err != nil {
		m.note("the order to go back cannot be carried out: %v", err)
		return
	}
	told := m.jury()
	m.note("by order the job goes on after step %d", e.To.Round)
	m.adoptSpine([]*Entry{entry})
	m.tellSpine(told)
}

// holdAlone makes a Reset hold whose only keeper is this node.
func (m *Machine) holdAlone(h record.Header, r *ResetEntry) (*Entry, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	s, c, err := m.self.Sign(h, r)
	if err != nil {
		return nil, err
	}
	h.Context, h.Reset = contextReset, c
	wrapped, _, err := m.self.Sign(h, ResetHeld{Reset: s})
	if err != nil {
		return nil, err
	}
	return OpenEntry(m.self.Signer, wrapped)
}

// tellSpine pushes this node's log to others.
func (m *Machine) tellSpine(ids []record.PeerID) {
	for _, id := range ids {
		if p := m.peers.find(id); p != nil && id != m.self.ID {
			m.pushTo(p, m.job.spine, true)
		}
	}
}

// mayOrder tells whether a Reset that says it was ordered was, by the one who may.
func (m *Machine) mayOrder(h *ResetHeld) bool {
	return h.entry.Order == 0 || h.Reset.Signer == m.g.Submitter && len(h.entry.Keepers) == 1 && h.entry.Keepers[0].ID == m.g.Submitter
}

// order is the number of the newest order in the log.
func (j *job) order() uint64 { return orderOf(j.forks) }

func orderOf(forks []Fork) uint64 {
	if n := len(forks); n > 0 {
		return forks[n-1].Order
	}
	return 0
}

// outdated tells that this node knows of an order that the log here does not have. Nothing of that log is carried on.
func (m *Machine) outdated() bool { return m.job.order() < m.g.Ordered }

// endedBy tells whether the job is over in the log of a spine.
func (m *Machine) endedBy(es []*Entry) bool {
	s := m.scratch()
	return s.replay(es) && s.job.ended
}

// disown gives up a state that the log now followed does not have.
func (m *Machine) disown() {
	if !m.me.ready {
		return
	}
	if c, ok := m.job.at(m.me.round); !ok || c.cid != m.me.commit {
		m.me.ready = false
	}
}

// settledUpTo is the settled checkpoints up to a round, oldest first.
func (j *job) settledUpTo(round uint64) []SettleEntry {
	return slices.DeleteFunc(slices.Clone(j.settled), func(s SettleEntry) bool { return s.Round > round })
}
