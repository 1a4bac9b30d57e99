package coord

import (
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// fetchAgain is how long a Fetch may go unanswered before others are asked. A worker answers sooner: this is a net.
const fetchAgain = 10 * time.Minute

// local is how this node's own trainer and collective stand.
type local struct {
	ready  bool // the trainer has the state of round and commit
	round  uint64
	commit cid.Cid
	hash   collective.Hash

	fetch    fetch
	finish   cid.Cid        // of the commit that the trainer is stepping; undefined: none
	staged   []staged       // results that no Finish named yet, oldest first
	late     time.Duration  // since when a committed result is missing here
	started  collective.Key // of the last Start
	cut      collective.Key // of the last Cut
	released collective.Key // of the last Release
	flow     flowing
	pace     time.Duration    // see Node.Pace; 0: not measured yet
	have     *collective.Have // last of the plan in force
	ack      *staged
	adopted  Adopted // last; of the plan whose key it has
	beatAt   time.Duration
	unseat   time.Duration // when the seat is closed; 0: never
	repeated time.Duration
	signed   signature
	order    *record.Signed // to cancel, not in the log yet
	leaveBy  time.Duration
	apart    []record.PeerID // whom this node cannot reach
	handed   time.Duration   // when the lead may be handed over again
	stored   []receiptMsg    // checkpoints on this disk, newest last, at most two
}

type fetch struct {
	on     bool
	round  uint64
	commit cid.Cid
	since  time.Duration
	tries  int
	pause  time.Duration // no new one before
}

type staged struct {
	key   collective.Key
	units []collective.Hash
}

// startPlan puts the plan in force here.
func (m *Machine) startPlan() {
	p := m.job.plan
	if p == nil || m.replaying {
		return
	}
	i := p.row(m.self.ID, m.self.Boot)
	if i < 0 || m.me.started == p.key || m.over != "" {
		return
	}
	m.me.started = p.key
	s := Start{Plan: p.parts, Peers: len(working(p.Members))}
	if m.g.diloco() {
		s.Done, s.Planned = m.job.cursor.taken(), count64(pieceRanges(p.Pieces))
	}
	for _, pc := range p.Pieces {
		if pc.Attempt == p.key.Attempt && pc.ID == m.self.ID && pc.Boot == m.self.Boot {
			s.Work = append(s.Work, pc.Ranges...)
		}
	}
	if p.flows() {
		s.Flow = m.startFlow(p, i)
	}
	m.emit(s)
	if s.Flow != nil {
		m.startSealed(p)
		m.sendFlow()
	}
}

// startCut tells the collective what the log says about the cut of the plan in force.
func (m *Machine) startCut() {
	j := m.job
	if j.cut == nil || m.replaying || m.me.started != j.plan.key {
		return
	}
	if m.me.cut != j.plan.key {
		m.me.cut = j.plan.key
		m.emit(Cut{Key: j.plan.key, Set: j.plan.marks(j.cut.Set)})
	}
	if j.totals != nil && m.me.released != j.plan.key {
		m.me.released = j.plan.key
		r := Release{Key: j.plan.key, Totals: j.totals.plain(), Taken: j.cursor.taken()}
		for _, c := range j.plan.counted(j.cut) {
			r.Peers++
			if c.Stage <= 1 { // a pipeline counts each position in every stage
				r.Taken += count64(c.Ranges)
			}
		}
		m.emit(r)
	}
	if m.lead != nil {
		m.lead.from, m.lead.tries = m.now, 0
	}
}

// held passes on what the collective holds.
func (m *Machine) held(h collective.Have) {
	if m.job.plan == nil || h.Key != m.job.plan.key {
		return
	}
	m.me.have = &h
	m.sendHave()
}

func (m *Machine) sendHave() {
	p := m.job.plan
	if p == nil || m.job.totals != nil || m.me.have == nil || m.me.have.Key != p.key || m.guide.leader == "" {
		return
	}
	msg := haveMsg{Plan: p.key.Plan, SumSq: m.me.have.SumSq, NonFinite: m.me.have.NonFinite}
	rest := m.me.have.Pieces // in plan order
	for i, id := range p.parts.Pieces {
		if len(rest) > 0 && rest[0].PieceID == id {
			if slices.Contains(m.me.have.Spoilt, id) {
				msg.Spoilt = append(msg.Spoilt, len(msg.Pieces))
			}
			msg.Pieces = append(msg.Pieces, CutMark{Piece: i, Weight: rest[0].Weight, Loss: rest[0].Loss})
			rest = rest[1:]
		}
	}
	m.send(m.guide.leader, m.header(contextHave, p.key.Round, p.key.Attempt), msg)
}

// reduced stages a result and acknowledges it.
func (m *Machine) reduced(d collective.Done) {
	s := staged{key: d.Key, units: d.Units}
	m.me.staged = append(m.me.staged, s)
	if len(m.me.staged) > StagedResults {
		m.me.staged = slices.Delete(m.me.staged, 0, 1)
	}
	if p := m.job.plan; p != nil && d.Key == p.key {
		m.me.ack = &s
		m.sendAck()
	}
}

func (m *Machine) sendAck() {
	p := m.job.plan
	if p == nil || m.me.ack == nil || m.me.ack.key != p.key || m.guide.leader == "" {
		return
	}
	m.send(m.guide.leader, m.header(contextAck, p.key.Round, p.key.Attempt), ackMsg{Plan: p.key.Plan, Units: m.me.ack.units, Notice: m.notice(p.key)})
}

// tellLeader repeats to a new leader what only a leader keeps.
func (m *Machine) tellLeader() {
	m.beat()
	m.repeat()
}

// stepped notes the trainer's new state.
func (m *Machine) stepped(e Stepped) {
	if m.me.finish != e.Commit || !e.Commit.Defined() {
		return
	}
	m.me.finish = cid.Undef
	m.setState(e.Round, e.Commit, e.Hash)
	m.disown() // the log may have become another one meanwhile
}

// unstaged gives up catching up by steps.
func (m *Machine) unstaged(e Unstaged) {
	if e.Commit.Defined() && m.me.finish == e.Commit {
		m.lose("a committed result is not here any more")
	}
}

func (m *Machine) setState(round uint64, commit cid.Cid, hash collective.Hash) {
	m.me.ready, m.me.round, m.me.commit, m.me.hash, m.me.late = true, round, commit, hash, 0
	m.checkpointHere()
	m.noteSelf()
	if m.lead != nil {
		m.leadState(m.peers.me())
	}
	m.beat()
}

func (m *Machine) restored(e Restored) {
	if !m.me.fetch.on {
		return
	}
	m.me.fetch = fetch{tries: m.me.fetch.tries}
	m.setState(e.Round, e.Commit, e.Hash)
}

func (m *Machine) unfetched(e Unfetched) {
	f := &m.me.fetch
	if !f.on || f.round != e.Round {
		return
	}
	f.on, f.tries, f.pause = false, f.tries+1, m.now+fetchPause
	m.note("state of round %d could not be fetched: %s", e.Round, e.Why)
}

// fetchPause lies between a Fetch that failed and the next.
const fetchPause = time.Second

// tickLocal acts on what has waited long enough.
func (m *Machine) tickLocal() {
	if m.me.fetch.on && m.now > m.me.fetch.since+fetchAgain {
		m.unfetched(Unfetched{Round: m.me.fetch.round, Why: "no answer"})
	}
	if m.me.unseat > 0 && m.now >= m.me.unseat {
		m.me.unseat = 0
		m.closeSeat()
	}
}

// reconcile brings the trainer's state to the newest commit: by stepping staged results, else by a Fetch.
func (m *Machine) reconcile() {
	j, me := m.job, &m.me
	if m.over != "" || m.replaying || me.fetch.on || me.finish.Defined() {
		return
	}
	if !me.ready {
		m.fetchState()
		return
	}
	here, ok := j.at(me.round)
	switch {
	case me.round > j.round:
		return // a donor was ahead of the log here; it will come
	case !ok || here.cid != me.commit:
		m.lose("this node's weights are not of this job's history")
	case me.round < j.round:
		m.stepNext()
	}
}

// stepNext steps the commit after this node's state, if its result is staged here.
func (m *Machine) stepNext() {
	next, ok := m.job.at(m.me.round + 1)
	if !ok || next.entry == nil {
		m.fetchState()
		return
	}
	i := slices.IndexFunc(m.me.staged, func(s staged) bool {
		return s.key == next.key && slices.Equal(s.units, next.entry.Units)
	})
	if i >= 0 {
		m.me.staged = slices.Delete(m.me.staged, 0, i+1)
		m.me.finish, m.me.late = next.cid, 0
		e := next.entry
		m.emit(Finish{Key: next.key, Commit: next.cid, Units: e.Units, Totals: e.Totals.plain(), Peers: next.peers, Taken: next.cursor.taken()})
		return
	}
	// The result of the newest commit may still be on its way here.
	if next.round == m.job.round && m.me.started == next.key {
		if m.me.late == 0 {
			m.me.late = m.now + leastWait
		}
		if m.now < m.me.late {
			return
		}
	}
	m.fetchState()
}

// lose gives up this node's state.
func (m *Machine) lose(why string) {
	m.note("%s; fetching", why)
	m.me.ready, m.me.finish = false, cid.Undef
	m.fetchState()
}

// checkState gives the state up when most members have another one (the commit says which).
func (m *Machine) checkState(b *CommitEntry) {
	me := &m.me
	known := b.State != (collective.Hash{}) && me.hash != (collective.Hash{})
	if me.ready && me.round+1 == m.job.round && me.commit == b.Prev && known && me.hash != b.State {
		m.lose("this node's weights differ from the others'")
	}
}

// fetchState asks for the state of the newest commit, from members that have it or from its checkpoint.
func (m *Machine) fetchState() {
	j, f := m.job, &m.me.fetch
	if m.now < f.pause || m.over != "" || !m.led() || !j.head.Defined() {
		return // without a leader and the log nobody knows which state is wanted
	}
	if j.round == 0 {
		m.fetchFromSpec()
		return
	}
	donors := m.donors()
	e := Fetch{Round: j.round, Commit: j.commit, Donors: donors}
	if s, ok := m.checkpointOf(j.round, j.commit); ok {
		e.Manifest = s.Manifest
		e.Donors = append(e.Donors, without2(s.Holders, e.Donors, m.self.ID)...)
	}
	if len(e.Donors) == 0 && !e.Manifest.Defined() {
		return // nobody to ask: the next beat or plan may bring one
	}
	*f = fetch{on: true, round: j.round, commit: j.commit, since: m.now, tries: f.tries}
	m.me.ready = false
	m.emit(e)
}

// without2 is as without those in bs and self.
func without2(as, bs []record.PeerID, self record.PeerID) (out []record.PeerID) {
	for _, a := range as {
		if a != self && !slices.Contains(bs, a) {
			out = append(out, a)
		}
	}
	return out
}

// fetchFromSpec makes the state of round 0.
func (m *Machine) fetchFromSpec() {
	if m.me.fetch.on || m.me.ready {
		return
	}
	m.me.fetch = fetch{on: true, since: m.now, tries: m.me.fetch.tries}
	m.emit(Fetch{})
}

// donors are the working members of the plan and whoever else is known to have the state; each try begins with another.
func (m *Machine) donors() (ids []record.PeerID) {
	if p := m.job.plan; p != nil {
		for _, i := range working(p.Members) {
			ids = append(ids, p.Members[i].ID)
		}
	}
	for _, p := range m.peers.alive(m.now) {
		if p.ready && p.round == m.job.round && p.commit == m.job.commit && !slices.Contains(ids, p.id) {
			ids = append(ids, p.id)
		}
	}
	ids = slices.DeleteFunc(ids, func(id record.PeerID) bool { return id == m.self.ID })
	if len(ids) > manyMembers { // the leader of many has enough to send
		ids = slices.DeleteFunc(ids, func(id record.PeerID) bool { return id == m.guide.leader })
	}
	if n := len(ids); n > 0 {
		k := (m.me.fetch.tries + int(m.self.Boot%uint64(n))) % n
		ids = slices.Concat(ids[k:], ids[:k])
	}
	return ids
}
