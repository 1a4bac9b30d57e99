package coord

import (
	"cmp"
	"slices"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
)

// apply takes an entry that the log committed. It returns false when the entry is void here: its parent is not the head,
// or it contradicts the job. Every member judges alike, because the judgement depends on the entries before alone.
func (m *Machine) apply(e *Entry) bool {
	if !m.fits(e) || e.Header.Parent != m.job.head || !m.valid(e) {
		return false
	}
	m.perform(e)
	if p, ok := e.Body.(*SettleEntry); ok {
		m.save(p.Round > 0)
	} else {
		m.save(len(m.job.recent) == 1)
	}
	m.pushOn(e)
	return true
}

// fits tells whether e is of this job and generation and signed by one of its keepers.
func (m *Machine) fits(e *Entry) bool {
	h := e.Header
	return h.Job == m.g.Job && h.Generation == m.job.gen && h.Reset == m.job.reset && isKeeper(m.job.keepers, e.Signer)
}

// valid judges what e says. An entry that passes changes the job.
func (m *Machine) valid(e *Entry) bool {
	j, h := m.job, e.Header
	if j.ended {
		return false
	}
	switch b := e.Body.(type) {
	case *PlanEntry:
		return m.validPlan(b, h)
	case *CutEntry:
		return j.plan != nil && h.Round == j.plan.key.Round && h.Attempt == j.plan.key.Attempt && j.cut == nil && m.validSet(b)
	case *TotalsEntry:
		return j.cut != nil && j.totals == nil && h.Round == j.plan.key.Round && h.Attempt == j.plan.key.Attempt
	case *CommitEntry:
		return j.totals != nil && h.Round == j.round+1 && h.Attempt == j.plan.key.Attempt && b.Of == j.plan.key.Plan &&
			b.Prev == j.commit && b.Bad == m.badAfter(&b.Totals) && m.validCommit(b, h) && m.validCursor(b)
	case *SettleEntry:
		return b.Round > j.lastSettled().Round && b.Round <= j.round
	case *MembersEntry:
		return true
	case *CancelEntry:
		return m.validEnd(b)
	}
	return false
}

func (m *Machine) validPlan(b *PlanEntry, h record.Header) bool {
	if h.Round != m.job.round+1 || m.job.cursor.done(&m.g) || !m.holds(b, h.Round, m.job.cursor) || !m.goesOnWith(b, h.Attempt) {
		return false
	}
	if p := m.job.plan; p != nil {
		return h.Attempt == p.key.Attempt+1
	}
	return h.Attempt == m.job.firstAttempt()
}

// validCommit judges a commit by the job's terms alone.
func (m *Machine) validCommit(b *CommitEntry, h record.Header) bool {
	left := cursor{b.Next, b.Open}
	if m.g.past(h.Round) || len(b.Units) != m.units() {
		return false
	}
	switch over := left.done(&m.g); {
	case b.Plan == nil:
		return over || m.g.Pipeline != nil // a stage may have to wait for a member
	case over || b.Plan.Begun != nil:
		return false
	}
	return m.holds(b.Plan, h.Round+1, left) && m.goesOnWith(b.Plan, m.job.firstAttempt())
}

// validCursor tells whether a commit leaves what its cut did not count.
func (m *Machine) validCursor(b *CommitEntry) bool {
	want := m.g.afterRound(m.job.round + 1)
	if m.g.diloco() {
		want = m.job.cursor.after(m.job.plan.Pieces, m.job.plan.counted(m.job.cut))
	}
	return want.equal(cursor{b.Next, b.Open})
}

// past tells whether a round is beyond the job's end.
func (g *Genesis) past(round uint64) bool { return !g.diloco() && round > g.Steps }

// holds tells whether a plan's pieces lie in the round's batch; in diloco, whether their positions are free, each of
// them once.
func (m *Machine) holds(b *PlanEntry, round uint64, left cursor) bool {
	if b.flows() != (m.g.Pipeline != nil) {
		return false
	}
	if b.flows() {
		return m.holdsFlow(b, round)
	}
	if m.g.diloco() {
		return within(pieceRanges(b.Pieces), left.free(&m.g))
	}
	batch := m.batch(round)
	for _, pc := range b.Pieces {
		if pc.Ranges[0].Lo < batch.Lo || pc.Ranges[len(pc.Ranges)-1].Hi > batch.Hi {
			return false
		}
	}
	return true
}

// validSet tells whether the cut's pieces cover the round's batch, each position once (invariant I2). In diloco any set of
// pieces may count, since no two of a plan overlap.
func (m *Machine) validSet(c *CutEntry) bool {
	p := m.job.plan
	if p.flows() {
		return m.validFlowSet(c)
	}
	var rs []shard.Range
	for _, k := range c.Set {
		if k.Piece >= len(p.Pieces) {
			return false
		}
		rs = append(rs, p.Pieces[k.Piece].Ranges...)
	}
	if m.g.diloco() {
		return len(rs) > 0
	}
	return exactly(rs, m.batch(m.job.round+1))
}

// exactly tells whether rs cover all, each position once.
func exactly(rs []shard.Range, all shard.Range) bool {
	rs = slices.Clone(rs)
	slices.SortFunc(rs, byLo)
	at := all.Lo
	for _, r := range rs {
		if r.Lo != at {
			return false
		}
		at = r.Hi
	}
	return at == all.Hi
}

// perform changes the job by an entry that counts, and does what follows from it at this member.
func (m *Machine) perform(e *Entry) {
	j := m.job
	j.head = e.CID
	j.keep(e)
	m.emit(Logged{Entry: e.Signed})
	switch b := e.Body.(type) {
	case *PlanEntry:
		m.enforce(e, b, e.Header.Round)
	case *CutEntry:
		j.cut, j.totals = b, b.Totals
		m.startCut()
	case *TotalsEntry:
		j.totals = &b.Totals
		m.startCut()
	case *CommitEntry:
		m.performCommit(e, b)
	case *SettleEntry:
		m.performSettle(*b)
	case *MembersEntry:
		j.keepers = b.Keepers
		m.seatKeepers()
	case *ResetHeld:
		m.performReset(e, b)
	case *CancelEntry:
		j.cancelled, j.endState, j.ended = cmp.Or(b.Why, "cancelled"), m.endOf(b.Order), true
		j.plan, j.cut, j.totals = nil, nil, nil
		m.end(j.endState, b.Why)
	}
	if len(e.Signed.Record) <= maxGossip && m.lead != nil {
		m.emit(Publish{Entry: e.Signed})
	}
}

// maxGossip is the largest entry repeated on gossip; with its signature it stays under 8 KiB.
const maxGossip = 7 << 10

// enforce puts a plan in force.
func (m *Machine) enforce(e *Entry, b *PlanEntry, round uint64) {
	attempt := m.job.firstAttempt()
	if e.Header.Context == contextPlan {
		attempt = e.Header.Attempt
	}
	key := collective.Key{Job: m.g.Job, Generation: m.job.gen, Round: round, Attempt: attempt, Plan: e.CID}
	m.job.plan = &planned{PlanEntry: b, key: key, since: m.now, parts: m.parts(b, key)}
	m.job.cut, m.job.totals = nil, nil
	if b.flows() {
		m.job.stages = b.stages()
	}
	m.startPlan()
	m.leadPlan()
}

func (m *Machine) performCommit(e *Entry, b *CommitEntry) {
	j := m.job
	done := commitAt{round: e.Header.Round, cid: e.CID, tokens: b.Tokens, cursor: cursor{b.Next, b.Open}, entry: b, peers: len(b.Counted)}
	done.key = collective.Key{Job: m.g.Job, Generation: j.gen, Round: done.round, Attempt: e.Header.Attempt, Plan: b.Of}
	if j.plan != nil && j.plan.key == done.key {
		m.emit(Committed{Key: done.key})
	}
	j.round, j.commit, j.tokens, j.cursor, j.bad = done.round, e.CID, b.Tokens, done.cursor, b.Bad
	j.trail = append(j.trail, done)
	if len(j.trail) > maxTrail {
		j.trail = slices.Delete(j.trail, 0, 1)
	}
	m.emit(Report{roundReport(e, b)})
	m.leadCommit(done)
	m.checkState(b)
	j.plan, j.cut, j.totals = nil, nil, nil
	m.reconcile()
	if b.Plan != nil {
		m.enforce(e, b.Plan, done.round+1)
	} else {
		m.leadFlow()
	}
}

func roundReport(e *Entry, b *CommitEntry) RoundReport {
	return RoundReport{
		Round: e.Header.Round, Generation: e.Header.Generation, Commit: e.CID, Attempts: attemptOf(e.Header.Attempt) + 1, Peers: len(b.Counted), Collect: b.Collect, Gather: b.Gather,
		Absent: b.Absent, Counted: b.Counted, Totals: b.Totals.plain(), Leader: e.Signer,
	}
}

func (t *Totals) plain() collective.Totals {
	return collective.Totals{Weight: t.Weight, Loss: t.Loss, SumSq: t.SumSq, NonFinite: t.NonFinite}
}

func (m *Machine) save(sync bool) {
	m.emit(Save{Spine: signedOf(m.job.spine), Sync: sync})
}
