package replog

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Machine is one voter's seat in a log.
type Machine struct {
	cfg   Config
	self  uint64
	node  *raft.RawNode
	store *storage
	rng   *rand.Rand

	voters map[uint64]Voter // everyone who has been a voter, to address messages
	conf   []uint64         // raft ids of the current voters, sorted
	joint  bool             // a change of voters is half done
	want   []Voter          // voters to be, nil: as they are
	change uint64           // ticks until a change of voters may be proposed again

	snaps []sentSnap // snapshots under way

	leader  Leader
	silent  int    // ticks since the leader was heard
	jitter  int    // draws what patience adds to the voter's turn
	hurry   bool   // begins the first election at once
	applied uint64 // raft index
	broken  error
}

// New opens a seat.
func New(cfg Config) (*Machine, error) {
	if len(cfg.Voters) > maxVoters {
		return nil, fmt.Errorf("%d voters, at most %d", len(cfg.Voters), maxVoters)
	}
	m := &Machine{
		cfg:    cfg,
		self:   cfg.Self.raftID(),
		rng:    rand.New(rand.NewPCG(cfg.Seed, cfg.Self.raftID())),
		voters: map[uint64]Voter{},
	}
	m.voters[m.self] = cfg.Self
	m.store = newStorage()
	m.jitter = m.rng.IntN(ElectionTicks)
	if len(cfg.Voters) > 0 {
		m.begin(cfg.Voters)
	}
	node, err := raft.NewRawNode(&raft.Config{
		ID:                        m.self,
		ElectionTick:              ElectionTicks,
		HeartbeatTick:             HeartbeatTicks,
		Storage:                   m.store,
		Applied:                   m.applied,
		MaxSizePerMsg:             maxAppend,
		MaxUncommittedEntriesSize: maxPending,
		MaxInflightMsgs:           maxInflight,
		CheckQuorum:               true,
		PreVote:                   true,
		DisableProposalForwarding: true,
		StepDownOnRemoval:         true,
		Logger:                    quiet{},
	})
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	m.node = node
	return m, nil
}

// begin writes the same first snapshot at every voter. The first voter starts an election at once, the others when it
// does not.
func (m *Machine) begin(vs []Voter) {
	for _, v := range vs {
		m.voters[v.raftID()] = v
	}
	m.setConf(&pb.ConfState{Voters: ids(vs)})
	m.store.begin(m.conf)
	m.applied = 1
	if vs[0] == m.cfg.Self {
		m.hurry = true
	}
}

// Tick is called every 50 ms. Only a leader's raft gets real ticks; the timer that starts elections is the machine's
// own, because raft's draws from the operating system's random numbers and could not be replayed. TickQuiesced, which
// only counts, is marked deprecated in the library; the day it goes, so does this and with it the replay of elections.
func (m *Machine) Tick() {
	if m.broken != nil {
		return
	}
	m.guard(func() error {
		m.change -= min(m.change, 1)
		if m.Leads() {
			m.node.Tick()
			m.endSnaps()
			m.proposeVoters()
			return nil
		}
		m.node.TickQuiesced()
		if m.silent++; m.silent < m.patience() {
			return nil
		}
		m.silent, m.jitter, m.hurry = 0, m.rng.IntN(ElectionTicks), false
		if !slices.Contains(m.conf, m.self) {
			return m.node.ForgetLeader() // this seat is not counted in yet, so it cannot find out by an election
		}
		return m.node.Campaign()
	})
}

// patience is how many ticks of silence start an election: once to twice ElectionTicks. Voters take turns, which change
// with the term, and each turn has a gap behind it, longer than a round trip for up to five voters: two that begin at the
// same moment may each get a part of the votes, and then everybody waits once more.
func (m *Machine) patience() int {
	if m.hurry {
		return 1
	}
	at, n := slices.Index(m.conf, m.self), len(m.conf)
	if at < 0 {
		return ElectionTicks + m.jitter
	}
	turn := int((uint64(at) + m.node.BasicStatus().GetTerm()) % uint64(n))
	return ElectionTicks + 1 + turn*(ElectionTicks-1)/n + m.jitter/(2*n)
}

// Leads tells whether this voter leads.
func (m *Machine) Leads() bool {
	return m.broken == nil && m.node.BasicStatus().RaftState == raft.StateLeader
}

// Leader tells who leads.
func (m *Machine) Leader() Leader { return m.leader }

// Removed tells that this seat was a voter and is none any more.
func (m *Machine) Removed() bool {
	return m.applied > 0 && !m.joint && !slices.Contains(m.conf, m.self)
}

// Voters are the present voters, in the order of their raft ids.
func (m *Machine) Voters() []Voter {
	vs := make([]Voter, len(m.conf))
	for i, id := range m.conf {
		vs[i] = m.voters[id]
	}
	return vs
}

// Propose asks to append data. It may be lost without notice when the lead is.
func (m *Machine) Propose(data []byte) error {
	if len(data) > MaxProposal {
		return fmt.Errorf("entry of %d bytes, limit %d", len(data), MaxProposal)
	}
	if !m.Leads() {
		return ErrNotLeader
	}
	return m.guard(func() error { return m.node.Propose(data) })
}

// Transfer hands the lead to another voter, if it is up to date soon.
func (m *Machine) Transfer(to Voter) {
	if m.Leads() && slices.Contains(m.conf, to.raftID()) {
		m.guard(func() error { m.node.TransferLeader(to.raftID()); return nil })
	}
}

// Step takes a message that peer from sent. An error means that it was refused and changed nothing, or ErrBroken.
func (m *Machine) Step(from record.PeerID, payload []byte) error {
	if m.broken != nil {
		return m.broken
	}
	msg, sender, err := m.open(from, payload)
	if err != nil {
		return err
	}
	m.voters[msg.GetFrom()] = sender
	return m.guard(func() error {
		err := m.node.Step(msg)
		if m.heard(msg) {
			m.silent = 0
		}
		return err
	})
}

// heard tells that msg came from the leader of the present term, or that we just voted for its sender.
func (m *Machine) heard(msg *pb.Message) bool {
	st := m.node.BasicStatus()
	if msg.GetTerm() != st.GetTerm() {
		return false
	}
	switch msg.GetType() {
	case pb.MsgApp, pb.MsgHeartbeat, pb.MsgSnap:
		return true
	case pb.MsgVote:
		return st.GetVote() == msg.GetFrom()
	}
	return false
}

// Ready returns what has happened since the last call; ok is false when nothing has.
func (m *Machine) Ready() (rd Ready, ok bool) {
	for m.broken == nil && m.node.HasReady() {
		ok = true
		m.guard(func() error {
			r := m.node.Ready()
			err := m.take(r, &rd)
			m.node.Advance(r)
			return err
		})
	}
	rd.NeedState = m.store.asked
	return rd, ok || rd.NeedState
}

func (m *Machine) take(r raft.Ready, rd *Ready) error {
	if err := m.store.save(r); err != nil {
		return err
	}
	if !raft.IsEmptySnap(r.Snapshot) {
		if err := m.install(r.Snapshot, rd); err != nil {
			return err
		}
	}
	for _, e := range r.CommittedEntries {
		if err := m.apply(e, rd); err != nil {
			return err
		}
	}
	m.noteLeader(rd)
	for _, msg := range r.Messages {
		if msg.GetType() == pb.MsgSnap {
			m.snaps = append(m.snaps, sentSnap{msg.GetTo(), snapTicks})
		}
		if s, ok := m.seal(msg); ok {
			rd.Send = append(rd.Send, s)
		}
	}
	return nil
}

// sentSnap is a snapshot that may have been lost on its way. raft sends its receiver nothing until it is told how that
// went; probing anew after some ticks is right either way.
type sentSnap struct {
	to   uint64
	left int // ticks
}

const snapTicks = 4 * HeartbeatTicks

func (m *Machine) endSnaps() {
	m.snaps = slices.DeleteFunc(m.snaps, func(s sentSnap) bool { return s.left <= 0 })
	for i := range m.snaps {
		if m.snaps[i].left--; m.snaps[i].left == 0 {
			m.node.ReportSnapshot(m.snaps[i].to, raft.SnapshotFinish)
		}
	}
}

func (m *Machine) apply(e *pb.Entry, rd *Ready) error {
	m.applied = e.GetIndex()
	if e.GetType() == pb.EntryNormal {
		if len(e.GetData()) > 0 { // a new leader begins its term with an empty entry
			rd.Committed = append(rd.Committed, bytes.Clone(e.GetData()))
		}
		return nil
	}
	var cc pb.ConfChangeV2
	if e.GetType() != pb.EntryConfChangeV2 {
		return fmt.Errorf("entry type %v is not used here", e.GetType())
	}
	if err := proto.Unmarshal(e.GetData(), &cc); err != nil {
		return err
	}
	if err := m.learn(cc.GetContext()); err != nil {
		return err
	}
	m.setConf(m.node.ApplyConfChange(&cc))
	return nil
}

// install adopts a snapshot: the state and who votes.
func (m *Machine) install(s *pb.Snapshot, rd *Ready) error {
	st, err := openState(s.GetData())
	if err != nil {
		return err
	}
	for _, v := range st.Voters {
		m.voters[v.raftID()] = v
	}
	m.applied = s.GetMetadata().GetIndex()
	m.setConf(s.GetMetadata().GetConfState())
	m.store.stale = false
	rd.Snapshot, rd.Committed = st.State, nil
	return nil
}

func (m *Machine) noteLeader(rd *Ready) {
	st := m.node.BasicStatus()
	l := Leader{Voter: m.voters[st.Lead], Term: st.GetTerm()}
	if st.Lead == raft.None {
		l = Leader{}
	}
	if l != m.leader {
		m.leader, rd.Leader = l, &l
	}
}

func (m *Machine) setConf(cs *pb.ConfState) {
	m.store.conf, m.store.stale = cs, true
	m.joint = len(cs.GetVotersOutgoing()) > 0
	m.conf = slices.Clone(cs.GetVoters())
	slices.Sort(m.conf)
}

// Len is the number of committed entries since the last Compact.
func (m *Machine) Len() uint64 { return m.applied - m.store.first() + 1 }

// Compact drops the committed entries; state stands for them. It must be what the caller's state is after everything
// that Ready returned.
func (m *Machine) Compact(state []byte) error {
	if m.broken != nil || m.applied == 0 {
		return nil
	}
	data, err := m.sealState(state)
	if err != nil {
		return err
	}
	m.store.compact(m.applied, data)
	return nil
}

// guard runs f and takes the machine out of service when raft panics: a message may be well formed and still
// contradict what this voter knows, and the library answers that with a panic. The job goes on with other voters.
func (m *Machine) guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			m.broken = fmt.Errorf("%w: %v", ErrBroken, r)
			err = m.broken
		}
	}()
	return f()
}
