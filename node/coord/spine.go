package coord

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// A spine is the entries that make the job's state as it is: a handful, in the order of the log, with the entries left
// out that later ones made superfluous. It stands for the log after a restart, for a late joiner and for a keeper that is
// far behind.

// restore rebuilds the job from what Save stored.
func (m *Machine) restore(spine []*record.Signed) error {
	es, err := m.openSpine(spine)
	if err != nil {
		return err
	}
	m.replay(es)
	m.out, m.me, m.over = nil, local{}, ""
	if n := len(m.job.settled); n > 0 {
		m.performSettle(m.job.settled[n-1]) // what it asks for may not have been done before the end of the last run
	}
	if m.outdated() {
		m.job.ended, m.job.cancelled = false, ""
	} else if m.job.cancelled != "" {
		m.end(m.job.endState, m.job.cancelled)
	}
	return nil
}

// Settled lists the checkpoints that a saved spine names, oldest first. Entries that do not verify are left out.
func Settled(by Signer, spine []*record.Signed) (out []SettleEntry) {
	for _, s := range spine {
		e, err := OpenEntry(by, s)
		if err != nil {
			continue
		}
		switch b := e.Body.(type) {
		case *ResetHeld:
			out = append(out, b.entry.Settled...)
		case *SettleEntry:
			out = append(out, *b)
		}
	}
	return out[max(0, len(out)-2):]
}

// openSpine checks the entries of a state: one generation, its Reset first, and nothing that contradicts itself.
func (m *Machine) openSpine(spine []*record.Signed) ([]*Entry, error) {
	if len(spine) == 0 || len(spine) > maxPush {
		return nil, fmt.Errorf("%w: state of %d entries", record.ErrBad, len(spine))
	}
	var es []*Entry
	for i, s := range spine {
		e, err := OpenEntry(m.self.Signer, s)
		if err != nil {
			return nil, err
		}
		held, ok := e.Body.(*ResetHeld)
		if ok != (i == 0 && e.Header.Generation > 0) {
			return nil, fmt.Errorf("%w: state without its Reset", record.ErrBad)
		}
		if ok && !m.mayOrder(held) {
			return nil, fmt.Errorf("%w: an order that is not the submitter's", record.ErrBad)
		}
		h, first := e.Header, e.Header
		if i > 0 {
			first = es[0].Header
		}
		if h.Job != m.g.Job || h.Generation != first.Generation || h.Reset != first.Reset {
			return nil, fmt.Errorf("%w: state of two logs", record.ErrBad)
		}
		es = append(es, e)
	}
	if !m.scratch().replay(es) {
		return nil, fmt.Errorf("%w: state that contradicts itself", record.ErrBad)
	}
	return es, nil
}

// scratch is a machine that only looks at entries.
func (m *Machine) scratch() *Machine {
	s := &Machine{g: m.g, self: m.self, over: "looking"}
	s.peers.init(m.self)
	return s
}

// replay makes the job from the entries of a spine. Only what they say counts, not what came before them; nothing is
// started, since a replay runs through plans that are long over. It stops with false at an entry that cannot follow.
func (m *Machine) replay(es []*Entry) bool {
	m.replaying = true
	defer func() { m.replaying = false }()
	m.job = newJob(&m.g)
	for _, e := range es {
		if !m.follows(e) {
			return false
		}
		m.perform(e)
	}
	return true
}

// follows is what valid is where the entries between are not there.
func (m *Machine) follows(e *Entry) bool {
	j, h := m.job, e.Header
	switch b := e.Body.(type) {
	case *PlanEntry:
		return h.Round == j.round+1 && !j.cursor.done(&m.g) && m.holds(b, h.Round, j.cursor)
	case *CutEntry:
		return j.plan != nil && h.Round == j.plan.key.Round && h.Attempt == j.plan.key.Attempt && m.validSet(b)
	case *TotalsEntry:
		return j.cut != nil
	case *CommitEntry:
		return h.Round > j.round && m.validCommit(b, h)
	case *SettleEntry:
		return !m.g.past(b.Round)
	case *ResetHeld:
		return !m.g.past(h.Round)
	}
	return true
}

// adoptSpine takes a state in place of the one here. The caller has made sure that it is to be followed.
func (m *Machine) adoptSpine(es []*Entry) {
	old, another := m.job, !m.sameLog(es)
	if another {
		m.leaveLog(forksOf(es))
	}
	m.replay(es)
	m.mergeTrail(old)
	if another {
		m.disown()
		m.joinLog()
	}
	m.seatKeepers()
	m.startPlan()
	m.startCut()
	m.save(true)
	m.reconcile()
}

// ahead tells whether a spine of this generation has more rounds, or entries that are not here.
func (m *Machine) ahead(es []*Entry) bool {
	last := es[len(es)-1]
	if last.CID == m.job.head {
		return false
	}
	if _, known := m.job.since(last.CID); known {
		return false
	}
	round := uint64(0)
	for _, e := range es {
		if _, ok := e.Body.(*CommitEntry); ok {
			round = e.Header.Round
		}
	}
	return round >= m.job.round
}

// mergeTrail keeps what is known of the earlier commits that both logs have.
func (m *Machine) mergeTrail(old *job) {
	common := commonRound(old.forks, m.job.forks)
	for _, c := range old.trail {
		if _, known := m.job.at(c.round); !known && c.round < min(m.job.round, common) {
			m.job.trail = append(m.job.trail, c)
		}
	}
	slices.SortFunc(m.job.trail, func(a, b commitAt) int { return cmp.Compare(a.round, b.round) })
	m.job.trail = slices.Delete(m.job.trail, 0, max(0, len(m.job.trail)-maxTrail))
}
