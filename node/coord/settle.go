package coord

import (
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// copies is how many members have to hold a checkpoint before it is settled, where there are as many.
const copies = 2

// askCopies is how long the leader waits for receipts before it asks other members to write the checkpoint.
const askCopies = 10 * time.Second

type receiptOf struct {
	id record.PeerID
	receiptMsg
}

// settles tells whether a commit's round ends with a checkpoint.
func (g *Genesis) settles(c commitAt) bool {
	return c.cursor.done(g) || g.CheckpointEvery > 0 && c.round%g.CheckpointEvery == 0
}

// writers are the members that write the checkpoint of the commit that carries this plan (or ends the job): those that
// carried the round out, the submitter and the keepers before others.
func (m *Machine) writers(c commitAt) []record.PeerID {
	var ids []record.PeerID
	add := func(id record.PeerID) {
		worked := slices.ContainsFunc(c.entry.Counted, func(n Contribution) bool { return n.Peer == id })
		if worked && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	add(m.g.Submitter)
	for _, k := range m.job.keepers {
		add(k.ID)
	}
	for _, n := range c.entry.Counted {
		add(n.Peer)
	}
	return ids[:min(len(ids), copies)]
}

// checkpointHere writes the checkpoint of the state just reached, if that is this member's part.
func (m *Machine) checkpointHere() {
	c, ok := m.job.at(m.me.round)
	if !ok || c.entry == nil || m.tainted(c) || c.cid != m.me.commit || !m.g.settles(c) || c.round <= m.job.lastSettled().Round {
		return
	}
	if slices.Contains(m.writers(c), m.self.ID) {
		m.emit(WriteCheckpoint{Round: c.round, Commit: c.cid})
	}
}

// stored passes on that a checkpoint is on this disk.
func (m *Machine) stored(e Stored) {
	r := receiptMsg{Round: e.Round, Manifest: e.Manifest}
	if c, ok := m.job.at(e.Round); ok {
		r.Commit = c.cid
	}
	m.me.stored = append(m.me.stored, r)
	if len(m.me.stored) > 2 {
		m.me.stored = slices.Delete(m.me.stored, 0, 1)
	}
	m.tellReceipts()
}

func (m *Machine) tellReceipts() {
	if m.guide.leader == "" {
		return
	}
	for _, r := range m.me.stored {
		if r.Round > m.job.lastSettled().Round {
			m.send(m.guide.leader, m.header(contextReceipt, r.Round, 0), r)
		}
	}
}

func (m *Machine) takeReceipt(o *opened, r *receiptMsg) {
	if r.Want {
		if o.signer == m.guide.leader && m.me.ready && m.me.round == r.Round && m.me.commit == r.Commit {
			m.emit(WriteCheckpoint{Round: r.Round, Commit: r.Commit})
		}
		return
	}
	if m.lead == nil || r.Round <= m.job.lastSettled().Round || len(m.lead.receipts) >= maxMembers {
		return
	}
	n := receiptOf{o.signer, *r}
	if !slices.Contains(m.lead.receipts, n) {
		m.lead.receipts = append(m.lead.receipts, n)
	}
}

// driveSettle settles the newest checkpoint that enough members hold.
func (m *Machine) driveSettle() bool {
	l := m.lead
	l.receipts = slices.DeleteFunc(l.receipts, func(r receiptOf) bool { return r.Round <= m.job.lastSettled().Round })
	for i := len(l.receipts) - 1; i >= 0; i-- {
		r := l.receipts[i]
		c, ok := m.job.at(r.Round)
		holders := m.holders(r)
		if ok && c.cid == r.Commit && !m.tainted(c) && m.livingOf(holders) >= m.copiesNeeded() {
			e := &SettleEntry{
				Round: r.Round, Commit: r.Commit, Tokens: c.tokens, Manifest: r.Manifest, Holders: holders,
				Regular: m.job.regular(),
			}
			if m.g.diloco() {
				e.Next, e.Open = c.cursor.next, c.cursor.open
			}
			m.propose(contextSettle, r.Round, 0, e)
			return true
		}
	}
	m.askForCopies()
	return false
}

func (m *Machine) livingOf(ids []record.PeerID) (n int) {
	for _, p := range m.peers.alive(m.now) {
		if slices.Contains(ids, p.id) {
			n++
		}
	}
	return n
}

// copiesNeeded is how many copies make a checkpoint settled: all there can be, where that is fewer than copies.
func (m *Machine) copiesNeeded() int { return min(copies, len(m.peers.alive(m.now))) }

func (m *Machine) holders(r receiptOf) (ids []record.PeerID) {
	for _, o := range m.lead.receipts {
		if o.receiptMsg == r.receiptMsg {
			ids = append(ids, o.id)
		}
	}
	slices.Sort(ids)
	return ids
}

// askForCopies turns to members that were not asked, when those that should write the last commit's checkpoint are gone.
// Before the last commit another checkpoint comes soon enough.
func (m *Machine) askForCopies() {
	j := m.job
	if !j.cursor.done(&m.g) || j.lastSettled().Round == j.round || m.now < m.lead.asked+askCopies {
		return
	}
	m.lead.asked = m.now
	for _, p := range m.peers.alive(m.now) {
		if p.ready && p.round == j.round && p.commit == j.commit {
			m.send(p.id, m.header(contextReceipt, j.round, 0), receiptMsg{Round: j.round, Commit: j.commit, Want: true})
		}
	}
}

// performSettle keeps the checkpoint where it should be kept, and ends the job after the last one.
func (m *Machine) performSettle(s SettleEntry) {
	j := m.job
	if s.Round > j.lastSettled().Round {
		j.settled = append(j.settled, s)
	}
	if len(j.settled) > 2 {
		j.settled = slices.Delete(j.settled, 0, 1)
	}
	if slices.Contains(s.Holders, m.self.ID) || m.self.ID == m.g.Submitter {
		m.keepCheckpoint(s)
	}
	if m.g.finished(s) {
		j.ended = true
		m.end("done", "")
	}
}

func (m *Machine) keepCheckpoint(s SettleEntry) {
	m.emit(KeepCheckpoint{Round: s.Round, Manifest: s.Manifest, Holders: s.Holders, DropBefore: m.job.settled[0].Round})
}

// checkpointOf finds the settled checkpoint of a commit.
func (m *Machine) checkpointOf(round uint64, commit cid.Cid) (SettleEntry, bool) {
	for _, s := range m.job.settled {
		if s.Round == round && s.Commit == commit {
			return s, true
		}
	}
	return SettleEntry{}, false
}

// finished tells whether a checkpoint is that of the last commit.
func (g *Genesis) finished(s SettleEntry) bool {
	if g.diloco() {
		return cursor{s.Next, s.Open}.done(g)
	}
	return s.Round == g.Steps
}
