package coord

import (
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// lead is what the leader keeps beside the log. All of it is lost with the lead and told again by the members.
type lead struct {
	since  time.Duration
	flight flight

	// of the plan in force, by index of its members
	haves   []*haveMsg
	acks    [][]collective.Hash
	notices []string      // of acks, see Adopted
	from    time.Duration // since when the present phase runs: plan, cut or totals
	began   time.Duration // the round, with its first attempt; or the lead, where that came later
	cutAt   time.Duration // from there to the cut; it is reported
	tries   int           // extensions of the present phase's deadline
	missed  []Absence     // diloco: whose work was not there at the cut

	states    map[record.PeerID]stateOf // hashes of members' states
	late      map[record.PeerID]int
	collect   timing
	gather    timing
	receipts  []receiptOf
	asked     time.Duration // when more members were asked for a checkpoint
	order     *record.Signed
	waits     string        // what the leader last said it waits for
	barren    time.Duration // since when nobody has had the state of the newest commit
	apartAt   time.Duration // when what members cannot reach changed last
	news      bool          // a Have came since the last look at them
	looked    time.Duration // when that was
	hailed    int           // index of the link looked at last
	yield     bool          // this node's own work was late: another keeper should lead
	flow      *book         // of a pipeline
	arranging arranging
}

// stateOf is the hash of a member's state after a round.
type stateOf struct {
	at   commitAt
	hash collective.Hash
}

// beginLead starts with what the log says. A plan in force goes on; its deadline begins anew, since the members' reports
// have to come again.
func (m *Machine) beginLead() {
	m.lead = &lead{since: m.now, began: m.now, barren: m.now, late: map[record.PeerID]int{}, states: map[record.PeerID]stateOf{}}
	if p := m.job.plan; p != nil {
		m.peers.excuse(m.now, p.Members)
	}
	for _, k := range m.job.keepers {
		m.peers.excuse(m.now, []Row{{ID: k.ID, Boot: k.Boot}})
	}
	m.leadPlan()
	m.noteSelf()
	for _, p := range m.peers.alive(m.now) {
		if p.id != m.self.ID {
			m.sendBeat(p.id, true) // so that members that do not vote know at once
		}
	}
}

// leadPlan forgets the reports of the plan before.
func (m *Machine) leadPlan() {
	l := m.lead
	if l == nil {
		return
	}
	l.from, l.cutAt, l.tries = m.now, 0, 0
	if p := m.job.plan; p == nil || attemptOf(p.key.Attempt) == 0 {
		l.began = m.now
	}
	l.haves, l.acks, l.notices, l.missed = nil, nil, nil, nil
	if p := m.job.plan; p != nil {
		l.haves = make([]*haveMsg, len(p.Members))
		l.acks = make([][]collective.Hash, len(p.Members))
		l.notices = make([]string, len(p.Members))
	}
	m.leadFlow()
}

// drive does the one next thing that the job needs from its leader. Proposals are made one at a time, because each names
// the head it follows.
func (m *Machine) drive() {
	l := m.lead
	if l == nil || m.seat == nil || !m.seat.Leads() || l.flight.pending(m.now) || m.job.ended {
		return
	}
	l.flight = flight{}
	switch {
	case m.driveCancel(), m.driveKeepers(), m.driveSettle(), m.driveDiverged():
	case m.job.plan == nil:
		m.driveFirst()
	case m.job.cut == nil:
		m.driveCut()
	case m.job.totals == nil:
		m.driveTotals()
	default:
		m.driveCommit()
	}
}

// waitFor says once what the leader waits for.
func (m *Machine) waitFor(what string) {
	if m.lead.waits != what {
		m.lead.waits = what
		if what != "" {
			m.note("%s", what)
		}
	}
}

// leadState notes a member's state.
func (m *Machine) leadState(p *peer) {
	if !p.ready || p.hash == (collective.Hash{}) {
		return
	}
	m.lead.states[p.id] = stateOf{at: commitAt{round: p.round, cid: p.commit}, hash: p.hash}
}
