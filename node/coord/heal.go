package coord

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// standing is how a node stands: what Reset needs to know of each member, and what decides between logs that meet.
type standing struct {
	Forks   []Fork      `cbor:"1,keyasint"`
	Head    cid.Cid     `cbor:"2,keyasint,omitzero"`
	Round   uint64      `cbor:"3,keyasint"` // newest commit
	Commit  cid.Cid     `cbor:"4,keyasint,omitzero"`
	Tokens  int64       `cbor:"5,keyasint"`
	Settled SettleEntry `cbor:"6,keyasint,omitzero"`  // newest; Round 0: none
	Regular uint64      `cbor:"7,keyasint"`           // round of the newest checkpoint settled in a regular generation
	Lost    bool        `cbor:"8,keyasint,omitempty"` // it sees no living majority of keepers
	Asking  bool        `cbor:"9,keyasint,omitempty"` // and would write a Reset
	Keeps   cid.Cid     `cbor:"10,keyasint,omitzero"` // the settled checkpoint on its disk
	Ready   bool        `cbor:"11,keyasint,omitempty"`
	AtRound uint64      `cbor:"12,keyasint"` // of its state
	At      cid.Cid     `cbor:"13,keyasint,omitzero"`
	Ask     bool        `cbor:"14,keyasint,omitempty"` // wants an answer
	Over    bool        `cbor:"15,keyasint,omitempty"` // the last commit is settled, or the job cancelled
}

func (s *standing) check() error {
	if len(s.Forks) > maxForks || s.Tokens < 0 {
		return fmt.Errorf("%d forks, %d tokens", len(s.Forks), s.Tokens)
	}
	if s.Settled.Round > 0 {
		return s.Settled.check()
	}
	return nil
}

// standing of this node.
func (m *Machine) standing(ask bool) standing {
	j := m.job
	s := standing{
		Forks: j.forks, Head: j.head, Round: j.round, Commit: j.commit, Tokens: j.tokens, Settled: j.lastSettled(),
		Regular: j.regularSettled(), Lost: m.lost(), Asking: m.court != nil, Ready: m.me.ready, AtRound: m.me.round,
		At: m.me.commit, Ask: ask, Over: j.ended,
	}
	if m.keeps(s.Settled) {
		s.Keeps = s.Settled.Manifest
	}
	return s
}

func (j *job) regularSettled() (round uint64) {
	for _, s := range j.settled {
		if s.Regular {
			round = s.Round
		}
	}
	return round
}

// keeps tells whether a settled checkpoint is on this node's disk.
func (m *Machine) keeps(s SettleEntry) bool {
	for _, id := range s.Holders {
		if id == m.self.ID {
			return true
		}
	}
	for _, r := range m.me.stored {
		if s.Round > 0 && r.Manifest == s.Manifest {
			return true
		}
	}
	return false
}

// foreign tells whether a header is of another generation.
func (m *Machine) foreign(h record.Header) bool {
	return h.Generation != m.job.gen || h.Reset != m.job.reset
}

func (m *Machine) sameLog(es []*Entry) bool {
	return !m.foreign(es[0].Header)
}

// meetEvery limits how often a node of another log is told how this one stands.
const meetEvery = time.Second

// meet answers a node that follows another log with this one's standing, so that both see which log goes on.
func (m *Machine) meet(id record.PeerID) {
	p := m.peers.find(id)
	if p == nil || p.met > 0 && m.now < p.met+meetEvery {
		return
	}
	p.met = m.now
	m.send(id, m.header(contextStanding, m.job.round, 0), m.standing(true))
}

// takeStanding brings a node of a losing or shorter log up to this one, and lets a court know its members.
func (m *Machine) takeStanding(o *opened, s *standing) {
	p := m.peers.find(o.signer)
	mine := m.standing(false)
	if s.Ask {
		m.send(o.signer, m.header(contextStanding, m.job.round, 0), mine)
	}
	if m.foreign(o.header) {
		if mine.beats(s) {
			m.pushTo(p, m.job.spine, true)
		}
		return
	}
	if len(m.job.spine) > 0 && (s.Round < m.job.round || s.Settled.Round < mine.Settled.Round) {
		m.pushTo(p, m.job.spine, true)
	}
	m.hearStanding(o, s)
}

// beats decides between two logs, alike on both sides. The latest order of a person counts before all else. A job that is
// over stays over: people have its result. One that diverged gives way to the Reset that its keepers agreed to. A log that
// branches off before a checkpoint that the other one settled in a regular generation loses. A regular Reset ends the
// generation it follows on, whose keepers agreed to it. Else the log with more tokens wins, else the one with a living
// majority, else the one with the lower name.
func (s *standing) beats(o *standing) bool {
	a, b := branch(s.Forks, o.Forks), branch(o.Forks, s.Forks)
	return cmp.Or(
		cmp.Compare(orderOf(s.Forks), orderOf(o.Forks)),
		compareBool(s.Over, o.Over),
		compareBool(a.Turned && b.stays(), b.Turned && a.stays()),
		-compareBool(a.Round < o.Regular, b.Round < s.Regular),
		compareBool(a.Regular && b.stays(), b.Regular && a.stays()),
		compareBool(o.hollow(b) && !s.Lost, s.hollow(a) && !o.Lost),
		cmp.Compare(s.Tokens, o.Tokens),
		compareBool(!s.Lost, !o.Lost),
		cmp.Compare(o.name(b), s.name(a)),
	) > 0
}

// hollow tells that a node knows of its log's newest commit and has nothing of it.
func (s *standing) hollow(f Fork) bool {
	return f.stays() && s.Lost && !(s.Ready && s.AtRound == s.Round && s.At == s.Commit)
}

// stays tells that a log did not branch off: it is still in the last common generation.
func (f Fork) stays() bool { return f.Round == math.MaxUint64 }

// name orders logs where nothing else does.
func (s *standing) name(f Fork) string { return fmt.Sprint(f.Reset, s.Head) }

// branch is the first generation of as that is not in bs; one without end when there is none.
func branch(as, bs []Fork) Fork {
	for i, f := range as {
		if i >= len(bs) || bs[i].Reset != f.Reset {
			return f
		}
	}
	return Fork{Round: math.MaxUint64}
}

// commonRound is the last round that two logs have in common.
func commonRound(as, bs []Fork) uint64 { return min(branch(as, bs).Round, branch(bs, as).Round) }

// takeSpine takes the state of a log that is ahead of this one, or beats it.
func (m *Machine) takeSpine(o *opened, b *push) {
	es, err := m.openSpine(b.Entries)
	if err != nil {
		return
	}
	if m.sameLog(es) {
		if m.ahead(es) {
			m.adoptSpine(es)
		}
		m.followPusher(o, b)
		return
	}
	if m.over != "" && !m.endedBy(es) {
		return // this part of the node is over: another begins when the order to go on comes
	}
	if !m.job.head.Defined() || m.losesTo(es) {
		m.adoptSpine(es)
		m.followPusher(o, b)
	}
}

// losesTo tells whether this node's log loses against the one that a spine stands for.
func (m *Machine) losesTo(es []*Entry) bool {
	other := m.scratch()
	other.replay(es)
	theirs := other.standing(false)
	theirs.Lost = false // whoever pushes a log follows it; one without a majority ends in a Reset
	mine := m.standing(false)
	return theirs.beats(&mine)
}

// leaveLog gives up the generation that was followed so far for another one, before anything of that is done.
func (m *Machine) leaveLog(forks []Fork) {
	m.closeSeat()
	m.peers.unknow()
	m.court = nil
	m.guide = guide{heard: m.now}
	me := &m.me
	me.fetch, me.late = fetch{tries: me.fetch.tries}, 0
	me.started, me.cut, me.released = collective.Key{}, collective.Key{}, collective.Key{}
	me.staged, me.have, me.ack, me.flow = nil, nil, nil, flowing{}
	if m.job.head.Defined() {
		back := min(m.job.round, commonRound(m.job.forks, forks))
		m.note("the job goes on after round %d in another generation", back)
		m.emit(Rollback{Round: back})
	}
}

// joinLog takes this node's seat in the generation now followed.
func (m *Machine) joinLog() {
	if m.job.fresh() && slices.Contains(m.job.keepers, m.voter()) {
		m.openSeat(m.logKey(), m.job.keepers)
	}
}

// forksOf is the history of generations that a spine belongs to.
func forksOf(es []*Entry) []Fork {
	held, ok := es[0].Body.(*ResetHeld)
	if !ok {
		return nil
	}
	h := es[0].Header
	last := Fork{Generation: h.Generation, Reset: es[0].CID, Round: h.Round, Regular: held.entry.Regular}
	last.Turned = held.entry.Turned
	last.Order = max(held.entry.Order, orderOf(held.entry.Forks))
	forks := append(slices.Clone(held.entry.Forks), last)
	return forks[max(0, len(forks)-maxForks):]
}

// fresh tells that nothing but the Reset is in the log, so that its keepers begin it.
func (j *job) fresh() bool { return len(j.spine) == 1 && j.gen > 0 }
