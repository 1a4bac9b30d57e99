package coord

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/replog"
)

const (
	beatEvery   = 500 * time.Millisecond
	beatApart   = 1500 * time.Microsecond // per member of the plan: what the leader of a large job spends on one
	beatMost    = 3 * slot / 8            // so that one lost beat does not look like death
	repeatEvery = 2 * time.Second
	pushAgain   = 400 * time.Millisecond // a member that is still behind after that is pushed again, see pushGap
	maxHails    = 32                     // nodes asked at once who leads
	pushBytes   = 160 << 10              // of entries in one push; the first may be larger
)

// guide is who leads, as far as this node knows.
type guide struct {
	leader record.PeerID
	term   uint64
	heard  time.Duration // from it
	waits  string        // what it says the job waits for
}

// beat tells the leader how this node stands, or whoever may know the leader.
func (m *Machine) beat() {
	m.me.beatAt = m.now + m.beatGap()
	m.noteSelf()
	if m.lead != nil {
		return
	}
	if m.led() {
		m.sendBeat(m.guide.leader, false)
		return
	}
	for _, id := range m.hailed() {
		m.sendBeat(id, false)
	}
}

func (m *Machine) beatGap() time.Duration {
	n := 0
	if p := m.job.plan; p != nil {
		n = len(p.Members)
	}
	return min(max(beatEvery, time.Duration(n)*beatApart), beatMost)
}

// beatWhenDue also repeats every repeatEvery what the leader has to know: control messages may be lost.
func (m *Machine) beatWhenDue() {
	if m.now < m.me.beatAt {
		return
	}
	m.beat()
	if m.now >= m.me.repeated+repeatEvery {
		m.me.repeated = m.now
		m.repeat()
		m.hailStrangers()
	}
}

// hailStrangers lets nodes that are connected, and not members here, know of this log, a few at a time: they may follow
// another one, whose members never need to ask who leads.
func (m *Machine) hailStrangers() {
	links := m.peers.links
	for n := 0; m.lead != nil && n < min(len(links), hailed); n++ {
		m.lead.hailed = (m.lead.hailed + 1) % len(links)
		id := links[m.lead.hailed]
		if p := m.peers.find(id); p == nil || !p.alive(m.now) {
			m.sendBeat(id, true)
		}
	}
}

const hailed = 8 // links looked at every repeatEvery

// repeat tells the leader again what members report of the present round and of checkpoints.
func (m *Machine) repeat() {
	m.sendHave()
	m.sendFlow()
	m.sendAck()
	m.tellReceipts()
	m.sendOrder()
}

// led tells whether the leader is known and not silent.
func (m *Machine) led() bool {
	if m.lead != nil {
		return true
	}
	return m.guide.leader != "" && m.now < m.guide.heard+slot
}

// hailed is who may know the leader: keepers, then members of the plan, then whoever is connected.
func (m *Machine) hailed() (ids []record.PeerID) {
	add := func(id record.PeerID) {
		if id != m.self.ID && !slices.Contains(ids, id) && len(ids) < maxHails {
			ids = append(ids, id)
		}
	}
	for _, k := range m.job.keepers {
		add(k.ID)
	}
	if m.job.plan != nil {
		for _, r := range m.job.plan.Members {
			add(r.ID)
		}
	}
	for _, id := range m.peers.links {
		add(id)
	}
	return ids
}

func (m *Machine) sendBeat(to record.PeerID, answer bool) {
	b := beat{
		Capability: m.cap, Head: m.job.head, Ready: m.me.ready, Round: m.me.round, Commit: m.me.commit, Hash: m.me.hash,
		Leader: m.guide.leader, Term: m.guide.term, Leaving: m.leaving || m.over == "failed" && !m.job.ended, Answer: answer,
		Apart: m.me.apart,
	}
	if m.lead != nil {
		b.Waits = m.lead.waits
	}
	m.send(to, m.header(contextBeat, m.job.round, 0), b)
}

// noteSelf enters this node into its own roster.
func (m *Machine) noteSelf() {
	p := m.peers.me()
	p.cap, p.heard, p.head = m.cap, m.now, m.job.head
	p.ready, p.round, p.commit, p.hash, p.leaving = m.me.ready, m.me.round, m.me.commit, m.me.hash, m.leaving
	m.heardApart(p, m.me.apart)
}

func (m *Machine) takeBeat(o *opened, b *beat) {
	p := m.peers.find(o.signer)
	p.known, p.cap, p.head, p.leaving = true, b.Capability, b.Head, b.Leaving
	m.heardApart(p, b.Apart)
	p.ready, p.round, p.commit, p.hash = b.Ready, b.Round, b.Commit, b.Hash
	m.hint(o.signer, b)
	if o.signer == m.guide.leader {
		m.guide.waits = b.Waits
	}
	if m.lead != nil {
		m.leadState(p)
	}
	if m.lead != nil || m.job.ended { // nobody has to lead a job that is over
		m.bringUp(p)
	}
	if !b.Answer && (m.lead != nil || m.guide.leader != "" && b.Leader != m.guide.leader) {
		m.sendBeat(o.signer, true)
	}
}

// hint learns from a beat who leads.
func (m *Machine) hint(from record.PeerID, b *beat) {
	if m.seat != nil && m.seat.Leader().ID != "" || b.Leader == "" {
		return
	}
	switch {
	case b.Leader == from && b.Term >= m.guide.term:
		m.follow(from, b.Term)
	case b.Leader != m.self.ID && b.Term > m.guide.term && !m.led():
		m.sendBeat(b.Leader, false) // it answers, if it leads
	}
}

// follow takes from as the leader. It is told everything again that only a leader keeps.
func (m *Machine) follow(leader record.PeerID, term uint64) {
	changed := m.guide.leader != leader || m.guide.term != term
	waits := m.guide.waits
	if changed {
		waits = ""
	}
	m.guide = guide{leader: leader, term: term, heard: m.now, waits: waits}
	if changed && m.lead == nil {
		m.tellLeader()
	}
}

// leaderChanged takes what this node's seat in the log knows.
func (m *Machine) leaderChanged(l replog.Leader) {
	if l.ID == "" {
		m.guide.leader, m.lead = "", nil
		return
	}
	if l.Voter != m.voter() {
		m.lead = nil
		m.follow(l.ID, l.Term)
		return
	}
	m.guide = guide{leader: m.self.ID, term: l.Term, heard: m.now}
	m.beginLead()
	m.tellLeader()
}

// pushOn passes an applied entry on to the members that do not vote, or do not yet.
func (m *Machine) pushOn(e *Entry) {
	if m.lead == nil {
		return
	}
	voters := m.seat.Voters()
	to := slices.DeleteFunc(m.peers.alive(m.now), func(p *peer) bool { return p.id == m.self.ID || isKeeper(voters, p.id) })
	slices.SortStableFunc(to, func(a, b *peer) int { // the best connected pass on; who was long here stays longer
		return cmp.Or(cmp.Compare(b.cap.BytesPerSec, a.cap.BytesPerSec), cmp.Compare(a.since, b.since))
	})
	relays := m.relays(to)
	for i, p := range to[:relays] {
		p.pushedNow(m.now)
		var on []record.PeerID
		for k := i + relays; k < len(to); k += relays {
			on = append(on, to[k].id)
			to[k].pushedNow(m.now)
		}
		b := push{Term: m.guide.term, Leads: true, Entries: []*record.Signed{e.Signed}, On: on}
		m.send(p.id, m.header(contextPush, m.job.round, 0), b)
	}
}

// maxDirect is how many members get entries from the leader itself; they pass them on to the others. Who misses one that
// way says so in its next beat.
const maxDirect = 32

// relays is how many members get an entry from the leader itself. Where all would be too many it sends to fewer the slower
// its line is beside theirs, so that its part and theirs take as long: with n members and r relays, r/own and n/(r·theirs).
func (m *Machine) relays(to []*peer) int {
	if len(to) <= maxDirect {
		return len(to)
	}
	own, theirs := m.cap.BytesPerSec, to[0].cap.BytesPerSec
	if own <= 0 || theirs <= 0 {
		return maxDirect
	}
	return int(min(max(math.Sqrt(float64(len(to))*own/theirs), leastDirect), maxDirect))
}

const leastDirect = 4

// passOn sends entries to the members that the leader has left to this node. They carry their own signatures.
func (m *Machine) passOn(b *push) {
	if len(b.On) == 0 {
		return
	}
	s, _, err := m.self.Sign(m.header(contextPush, m.job.round, 0), push{Term: b.Term, Entries: b.Entries})
	if err != nil {
		m.note("entries could not be signed: %v", err)
		return
	}
	for _, id := range b.On {
		if id != m.self.ID {
			m.emit(Send{To: id, Msg: s})
		}
	}
}

// bringUp sends a member that is behind what it lacks.
func (m *Machine) bringUp(p *peer) {
	again := p.pushes > 0 && p.pushedFor == p.head
	if p.head == m.job.head || p.id == m.self.ID || len(m.job.recent) == 0 || again && m.now < p.pushed+m.pushGap(p.pushes) {
		return
	}
	times := 0
	if again {
		times = p.pushes
	}
	p.pushedNow(m.now)
	p.pushes += times
	if es, ok := m.job.since(p.head); ok {
		m.pushTo(p, es, false)
		return
	}
	m.pushTo(p, m.job.spine, true)
}

// pushGap is how long a push may take, when so many have brought nothing. Entries of a large job are large, and there are
// many that wait for them: a leader that takes what is under way for lost fills its line with copies.
func (m *Machine) pushGap(pushes int) time.Duration {
	return doubled(pushAgain*time.Duration(1+len(m.peers.peers)/128), min(pushes-1, 5))
}

// pushedNow notes that what its head lacks is on its way to a peer.
func (p *peer) pushedNow(now time.Duration) { p.pushed, p.pushedFor, p.pushes = now, p.head, 1 }

// pushTo sends entries, in as many pushes as they need. A spine has to stay together: its entries are few.
func (m *Machine) pushTo(p *peer, es []*Entry, spine bool) {
	for len(es) > 0 {
		n, bytes := 0, 0
		for n < len(es) && n < maxPush && (n == 0 || spine || bytes+len(es[n].Signed.Record) <= pushBytes) {
			bytes += len(es[n].Signed.Record)
			n++
		}
		b := push{Term: m.guide.term, Leads: m.lead != nil, Entries: signedOf(es[:n]), Spine: spine}
		m.send(p.id, m.header(contextPush, m.job.round, 0), b)
		es = es[n:]
	}
}

// takePush follows the log. Only the log's keepers push, and entries link to each other, so a push out of order or from
// an old leader changes nothing.
func (m *Machine) takePush(o *opened, b *push) {
	switch {
	case b.Spine:
		m.takeSpine(o, b)
		return
	case m.foreign(o.header):
		m.meet(o.signer)
		return
	}
	m.followPusher(o, b)
	if o.signer == m.guide.leader {
		m.passOn(b)
	}
	for _, s := range b.Entries {
		e, err := OpenEntry(m.self.Signer, s)
		if err != nil {
			return
		}
		if _, known := m.job.since(e.CID); known || m.apply(e) {
			continue
		}
		m.sendBeat(cmp.Or(m.guide.leader, o.signer), false) // with our head: its answer brings what is missing
		return
	}
}

// followPusher takes who pushes as the leader, unless this node's seat knows better.
func (m *Machine) followPusher(o *opened, b *push) {
	if b.Leads && b.Term >= m.guide.term && (m.seat == nil || m.seat.Leader().ID == "") {
		m.follow(o.signer, b.Term)
	}
	if o.signer == m.guide.leader {
		m.guide.heard = m.now
	}
}
