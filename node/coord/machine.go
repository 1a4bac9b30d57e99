package coord

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/replog"
)

// Machine is one node's part in a job.
type Machine struct {
	g    Genesis
	self Self
	cap  Capability
	now  time.Duration
	out  []Effect

	job   *job
	seat  *replog.Machine // nil: this node does not vote
	log   replog.Key      // the seat's
	me    local
	peers roster
	guide guide // who leads, as far as this node knows
	lead  *lead // nil: this node does not
	court *court

	replaying bool // a spine is being applied
	leaving   bool
	over      string // the state End told; empty: none
}

// Keys is the real Signer.
type Keys struct {
	ID  record.PeerID
	Key ed25519.PrivateKey
}

func (k Keys) Sign(h record.Header, body any) (*record.Signed, cid.Cid, error) {
	return record.Sign(h, body, k.ID, k.Key)
}

func (k Keys) Open(s *record.Signed) (*record.Record, cid.Cid, error) { return record.Open(s) }

// New returns the machine of a node that begins, joins or comes back to a job. spine is what the last Save stored; empty
// when there was none. The effects to perform first come from the first Step.
func New(g Genesis, self Self, c Capability, spine []*record.Signed) (*Machine, error) {
	if g.Batch == 0 || g.Steps == 0 || len(g.Chunks) == 0 || !g.checkWeights() || g.Samples == 0 || g.Samples > g.Steps*g.Batch {
		return nil, fmt.Errorf("job %v: %d steps of %d sequences, %d in all, %d chunks",
			g.Job, g.Steps, g.Batch, g.Samples, len(g.Chunks))
	}
	if g.Pipeline != nil {
		if err := g.Pipeline.check(&g); err != nil {
			return nil, fmt.Errorf("job %v: %w", g.Job, err)
		}
	}
	g.MinPeers = max(g.MinPeers, 1)
	m := &Machine{g: g, self: self, cap: c, job: newJob(&g)}
	m.peers.init(self)
	if len(spine) > 0 {
		if err := m.restore(spine); err != nil {
			return nil, fmt.Errorf("restore job %v: %w", g.Job, err)
		}
		m.court = &court{since: m.now, restarted: true} // nobody can know whether the keepers still run: ask
	} else if self.ID == g.Submitter {
		m.openSeat(replog.Key{Job: g.Job}, []replog.Voter{m.voter()})
		m.fetchFromSpec()
	}
	return m, nil
}

func (m *Machine) voter() replog.Voter { return replog.Voter{ID: m.self.ID, Boot: m.self.Boot} }

// Step takes an event and returns what is to be done, in order.
func (m *Machine) Step(e Event) []Effect {
	m.take(e)
	for first := true; m.drainLog() || first; first = false {
		if !first || m.moves(e) {
			m.drive()
		}
	}
	m.reconcile()
	out := m.out
	m.out = nil
	return out
}

// moves tells whether the leader looks for its next step after an event. In a large job messages come by the thousand,
// and what they say can wait for the next tick.
func (m *Machine) moves(e Event) bool {
	_, message := e.(Message)
	return !message || len(m.peers.peers) <= manyPeers
}

const manyPeers = 64

func (m *Machine) take(e Event) {
	switch e := e.(type) {
	case Tick:
		m.tick(e.Now)
	case Peer:
		m.peerChanged(e.ID, e.Up)
	case Message:
		m.message(e)
	case LogMessage:
		if m.seat != nil {
			_ = m.seat.Step(e.From, e.Payload) // refused ones are void; a broken seat shows in drainLog
		}
	case Held:
		m.held(e.Have)
	case Reduced:
		m.reduced(e.Done)
	case Stepped:
		m.stepped(e)
	case Unstaged:
		m.unstaged(e)
	case Restored:
		m.restored(e)
	case Unfetched:
		m.unfetched(e)
	case Stored:
		m.stored(e)
	case Measured:
		m.cap = e.Capability
	case Unreached:
		m.unreached(e)
	case Adopted:
		m.adopted(e)
	case Failed:
		m.note("this node leaves the job: %s", e.Why)
		m.leave()
		m.end("failed", e.Why)
	case FlowDone:
		m.flowDone(e)
	case FlowLost:
		m.flowLost(e)
	case Leave:
		m.leave()
	case GoBack:
		m.goBack(e)
	case CancelJob:
		m.orderCancel(e.Why, e.Enough)
	}
}

// At tells how late it is between ticks, which makes what is measured exact. Nothing happens by it.
func (m *Machine) At(now time.Duration) {
	if now < m.now {
		return
	}
	if gap := now - m.now; gap > sleptAfter {
		m.awake(gap)
	}
	m.now = now
}

// tick lets time pass for everything that waits for something.
func (m *Machine) tick(now time.Duration) {
	if now < m.now {
		return
	}
	m.At(now)
	if m.seat != nil {
		m.seat.Tick()
	}
	m.beatWhenDue()
	m.tickLocal()
	m.tickCourt()
	m.tickLeave()
}

// sleptAfter is the gap between ticks from which on this process was stopped, or the machine slept.
const sleptAfter = time.Second

// awake shifts what was heard before a sleep: it was this node that was away, not the others. Its own silence they have
// noticed themselves.
func (m *Machine) awake(gap time.Duration) {
	for _, p := range m.peers.peers {
		p.heard += gap
	}
	m.guide.heard += gap
	if m.lead != nil {
		m.lead.from += gap
		m.lead.began = min(m.lead.began+gap, m.lead.from)
		if m.lead.flow != nil {
			m.lead.flow.moved += gap
		}
	}
}

func (m *Machine) emit(e Effect) { m.out = append(m.out, e) }

func (m *Machine) note(format string, args ...any) {
	m.emit(Note{Text: fmt.Sprintf(format, args...)})
}

// header of what this node says about the job as it stands.
func (m *Machine) header(context string, round uint64, attempt uint32) record.Header {
	return record.Header{
		Context: context, Version: record.Version, Job: m.g.Job, Generation: m.job.gen, Reset: m.job.reset,
		Round: round, Attempt: attempt, Boot: m.self.Boot,
	}
}

// send signs a control message and sends it, or takes it at once when it is for this node.
func (m *Machine) send(to record.PeerID, h record.Header, body any) {
	s, _, err := m.self.Sign(h, body)
	if err != nil {
		m.note("a message could not be signed: %v", err)
		return
	}
	if to == m.self.ID {
		m.message(Message{From: to, Msg: s})
		return
	}
	m.emit(Send{To: to, Msg: s})
}

// message checks a control message and gives it to whom it concerns. What does not verify is dropped: it may be from a
// newer version, or from nobody we know.
func (m *Machine) message(e Message) {
	if e.Msg == nil {
		return
	}
	o, err := openMessage(m.self.Signer, e.Msg)
	if err != nil || o.header.Job != m.g.Job || o.signer != e.From || !m.peers.heard(o, m.now) {
		return
	}
	switch b := o.body.(type) {
	case *push:
		m.takePush(o, b)
	case *standing:
		m.takeStanding(o, b)
	case *signMsg:
		m.takeSign(o, b)
	case *orderMsg:
		m.takeOrder(o)
	default:
		if m.foreign(o.header) {
			m.peers.find(o.signer).known = false
			m.meet(o.signer)
			return
		}
		m.ofThisLog(o)
	}
}

// ofThisLog takes the messages that mean something only in the generation they name.
func (m *Machine) ofThisLog(o *opened) {
	switch b := o.body.(type) {
	case *beat:
		m.takeBeat(o, b)
	case *haveMsg:
		m.takeHave(o, b)
	case *ackMsg:
		m.takeAck(o, b)
	case *receiptMsg:
		m.takeReceipt(o, b)
	case *flowMsg:
		m.takeFlow(o, b)
	case *sealMsg:
		m.takeSeal(o, b)
	}
}

// leave begins a clean leave. It ends when the lead and the keeper's seat are handed over and a plan goes without this
// node, or after leaveWait.
func (m *Machine) leave() {
	if m.leaving {
		return
	}
	m.leaving = true
	m.me.leaveBy = m.now + leaveWait
	m.beat()
}

// leaveWait is how long a leave may take; SIGTERM leaves 5 s in all.
const leaveWait = 3 * time.Second

func (m *Machine) tickLeave() {
	if !m.leaving || m.over != "" {
		return
	}
	keeps := m.seat != nil && isKeeper(m.job.keepers, m.self.ID)
	works := m.job.plan.row(m.self.ID, m.self.Boot) >= 0 && m.led()
	alone := len(m.peers.alive(m.now)) == 1 || m.lead != nil && len(m.fit()) == 0 // nobody stays to go on
	if alone || !keeps && !works || m.now >= m.me.leaveBy {
		m.end("left", "")
	}
}

func (m *Machine) end(state, why string) {
	if m.over == "" {
		m.over = state
		m.emit(End{State: state, Why: why})
	}
}

// Status is what a person may want to see of a job.
type Status struct {
	Generation uint32
	Round      uint64 // newest commit
	Attempt    uint32 // of the round after it
	Tokens     int64
	Leader     record.PeerID
	Keepers    []record.PeerID
	Members    []Row
	State      uint64 // round of this node's weights
	Ready      bool   // it has weights
	Settled    uint64 // round of the newest settled checkpoint
	Order      uint64 // number of the newest order of a person
	Waits      string // what the job waits for, as its leader says; empty: for nothing
	Over       string // "done", "cancelled", "failed", "left"; empty: it goes on
}

// Status tells how the job stands here.
func (m *Machine) Status() Status {
	s := Status{
		Generation: m.job.gen, Round: m.job.round, Tokens: m.job.tokens, Leader: m.guide.leader,
		Waits: m.guide.waits, State: m.me.round, Ready: m.me.ready, Settled: m.job.lastSettled().Round, Over: m.over, Order: m.job.order(),
	}
	if m.lead != nil {
		s.Waits = m.lead.waits
	}
	for _, k := range m.job.keepers {
		s.Keepers = append(s.Keepers, k.ID)
	}
	if p := m.job.plan; p != nil {
		s.Attempt, s.Members = attemptOf(p.key.Attempt), slices.Clone(p.Members)
	}
	return s
}

// Settled lists the checkpoints that the job could go back to, oldest first.
func (m *Machine) Settled() []SettleEntry { return slices.Clone(m.job.settled) }

// Votes tells whether this node has a seat in the log, which counts its ticks.
func (m *Machine) Votes() bool { return m.seat != nil }
