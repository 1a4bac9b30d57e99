package replog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

var testKey = Key{Job: record.CID([]byte("job"))}

// swarm is voters and the messages between them; every tick everything that is not cut is delivered.
type swarm struct {
	t     *testing.T
	seats map[string]*seat
	order []string
	drop  *rand.Rand // nil: nothing is lost
}

type seat struct {
	v    Voter
	m    *Machine
	log  []string // what it knows: state and entries
	down bool
	in   []Send
	from []record.PeerID
}

func voter(name string) Voter { return Voter{ID: record.PeerID(name), Boot: 1} }

func newSwarm(t *testing.T, names ...string) *swarm {
	s := &swarm{t: t, seats: map[string]*seat{}}
	var vs []Voter
	for _, n := range names {
		vs = append(vs, voter(n))
	}
	for _, n := range names {
		s.open(n, vs)
	}
	return s
}

func (s *swarm) open(name string, vs []Voter) *seat {
	m, err := New(Config{Key: testKey, Self: voter(name), Voters: vs, Seed: 1})
	if err != nil {
		s.t.Fatal(err)
	}
	s.seats[name] = &seat{v: voter(name), m: m}
	s.order = append(s.order, name)
	return s.seats[name]
}

// tick lets 50 ms pass.
func (s *swarm) tick() {
	for _, n := range s.order {
		if st := s.seats[n]; !st.down {
			st.m.Tick()
			s.ready(st)
		}
	}
	for busy := true; busy; {
		busy = false
		for _, n := range s.order {
			st := s.seats[n]
			in, from := st.in, st.from
			st.in, st.from = nil, nil
			for i := range in {
				if st.down {
					continue
				}
				busy = true
				if err := st.m.Step(from[i], in[i].Payload); errors.Is(err, ErrBroken) {
					s.t.Fatal(err)
				}
				s.ready(st)
			}
		}
	}
}

func (s *swarm) ready(st *seat) {
	rd, ok := st.m.Ready()
	if !ok {
		return
	}
	if rd.Snapshot != nil {
		st.log = strings.Split(string(rd.Snapshot), " ")
	}
	for _, e := range rd.Committed {
		st.log = append(st.log, string(e))
	}
	if rd.NeedState {
		if err := st.m.Compact([]byte(strings.Join(st.log, " "))); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, m := range rd.Send {
		to := s.seats[string(m.To)]
		if to == nil || to.down || (s.drop != nil && s.drop.IntN(5) == 0) {
			continue
		}
		to.in, to.from = append(to.in, m), append(to.from, st.v.ID)
	}
}

func (s *swarm) until(what string, done func() bool) {
	s.t.Helper()
	for range 4000 {
		if done() {
			return
		}
		s.tick()
	}
	s.t.Fatalf("never: %s", what)
}

func (s *swarm) leader() *seat {
	for _, n := range s.order {
		if st := s.seats[n]; !st.down && st.m.Leads() {
			return st
		}
	}
	return nil
}

func (s *swarm) propose(data string) {
	s.t.Helper()
	s.until("a leader takes "+data, func() bool {
		l := s.leader()
		return l != nil && l.m.Propose([]byte(data)) == nil
	})
}

func (s *swarm) agree(want string) {
	s.t.Helper()
	s.until("all know "+want, func() bool {
		for _, st := range s.seats {
			if !st.down && slices.Contains(st.m.Voters(), st.v) && strings.Join(st.log, " ") != want {
				return false
			}
		}
		return true
	})
}

func TestElectProposeFailOver(t *testing.T) {
	s := newSwarm(t, "a", "b", "c")
	s.tick()
	if l := s.leader(); l == nil || l.v != voter("a") {
		t.Fatal("the first voter leads at once")
	}
	s.propose("1")
	s.propose("2")
	s.agree("1 2")
	s.seats["a"].down = true
	ticks := 0
	s.until("another leads", func() bool { ticks++; return s.leader() != nil })
	if ticks > 2*ElectionTicks+5 {
		t.Errorf("%d ticks without a leader, at most two election timeouts are allowed", ticks)
	}
	s.propose("3")
	s.agree("1 2 3")
	s.seats["a"].down = false
	s.agree("1 2 3")
	if s.seats["a"].m.Leads() {
		t.Error("the old leader comes back as a follower")
	}
}

func TestLeaderWithoutMajorityStepsDown(t *testing.T) {
	s := newSwarm(t, "a", "b", "c")
	s.tick()
	s.seats["b"].down, s.seats["c"].down = true, true
	s.until("a gives up", func() bool { return s.leader() == nil })
	if got := s.seats["a"].m.Leader(); got != (Leader{}) {
		t.Errorf("leader %v, want nobody", got)
	}
}

func TestReplaceVoter(t *testing.T) {
	for _, compact := range []bool{false, true} {
		t.Run(fmt.Sprintf("compacted %v", compact), func(t *testing.T) {
			s := newSwarm(t, "a", "b", "c")
			for i := range 20 {
				s.propose(fmt.Sprint(i))
			}
			want := "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19"
			s.agree(want)
			if compact {
				s.compact()
			}
			s.seats["c"].down = true
			d := s.open("d", nil)
			vs := []Voter{voter("a"), voter("b"), voter("d")}
			s.leader().m.SetVoters(vs)
			s.until("d votes", func() bool { return slices.Contains(d.m.Voters(), d.v) && len(d.m.Voters()) == 3 })
			s.agree(want)
			s.seats["a"].down = true // b and d are a majority of the new voters
			s.propose("x")
			s.agree(want + " x")
		})
	}
}

func (s *swarm) compact() {
	for _, st := range s.seats {
		if err := st.m.Compact([]byte(strings.Join(st.log, " "))); err != nil {
			s.t.Fatal(err)
		}
		if st.m.Len() != 0 {
			s.t.Fatalf("%d entries after Compact", st.m.Len())
		}
	}
}

func TestGrowAndShrink(t *testing.T) {
	s := newSwarm(t, "a")
	s.propose("1")
	s.open("b", nil)
	s.open("c", nil)
	s.leader().m.SetVoters([]Voter{voter("a"), voter("b"), voter("c")})
	s.until("three vote", func() bool { return len(s.seats["c"].m.Voters()) == 3 && !s.seats["c"].m.joint })
	s.propose("2")
	s.agree("1 2")
	s.leader().m.SetVoters([]Voter{voter("b")})
	s.until("a and c are removed", func() bool {
		l := s.leader()
		return l != nil && l.v == voter("b") && len(l.m.Voters()) == 1
	})
	s.propose("3")
	s.agree("1 2 3")
	if !s.seats["a"].m.Removed() && len(s.seats["a"].m.Voters()) == 1 {
		t.Error("a does not know that it was removed")
	}
}

func TestTransfer(t *testing.T) {
	s := newSwarm(t, "a", "b", "c")
	s.tick()
	s.seats["a"].m.Transfer(voter("c"))
	s.until("c leads", func() bool { return s.seats["c"].m.Leads() })
}

// TestLoss: with one message in five lost and entries dropped by Compact, everyone ends with the same log.
func TestLoss(t *testing.T) {
	s := newSwarm(t, "a", "b", "c")
	s.drop = rand.New(rand.NewPCG(7, 7))
	var want []string
	for i := range 60 {
		if i == 20 {
			s.seats["c"].down = true
		}
		if i == 40 {
			s.until("two agree", func() bool { return slices.Equal(s.seats["a"].log, s.seats["b"].log) })
			for _, n := range []string{"a", "b"} {
				if err := s.seats[n].m.Compact([]byte(strings.Join(s.seats[n].log, " "))); err != nil {
					t.Fatal(err)
				}
			}
			s.seats["c"].down = false
		}
		s.propose(fmt.Sprint(i))
		want = append(want, fmt.Sprint(i))
		l := s.leader()
		s.until("it is committed", func() bool { return len(l.log) > 0 && l.log[len(l.log)-1] == fmt.Sprint(i) })
	}
	s.agree(strings.Join(want, " "))
}

func TestSameCallsSameMessages(t *testing.T) {
	run := func() (trace []string) {
		s := newSwarm(t, "a", "b", "c")
		s.drop = rand.New(rand.NewPCG(3, 4))
		for i := range 300 {
			s.tick()
			if i == 50 {
				s.seats["a"].down = true
			}
			l := s.leader()
			if l != nil {
				_ = l.m.Propose([]byte("x"))
			}
			trace = append(trace, fmt.Sprint(i, l != nil && l.v == voter("b"), len(s.seats["c"].log), s.seats["c"].m.Leader()))
		}
		return trace
	}
	if a, b := run(), run(); !slices.Equal(a, b) {
		t.Fatal("two runs differ")
	}
}

func TestStepRefuses(t *testing.T) {
	s := newSwarm(t, "a", "b", "c")
	s.tick()
	a, b := s.seats["a"].m, s.seats["b"].m
	seal := func(msg *pb.Message) []byte {
		send, ok := a.seal(msg)
		if !ok {
			t.Fatal("seal")
		}
		return send.Payload
	}
	beat := &pb.Message{Type: pb.MsgHeartbeat.Enum(), From: new(a.self), To: new(b.self), Term: new(uint64(2))}
	good := seal(beat)
	if err := b.Step("a", good); err != nil {
		t.Fatal(err)
	}
	other := *a
	other.cfg.Generation = 1
	foreign, _ := other.seal(beat)
	hup := proto.Clone(beat).(*pb.Message)
	hup.Type = pb.MsgHup.Enum()
	for name, tc := range map[string]struct {
		from    record.PeerID
		payload []byte
	}{
		"of somebody else": {"c", good},
		"of another log":   {"a", foreign.Payload},
		"of a local type":  {"a", seal(hup)},
		"too large":        {"a", make([]byte, MaxPayload+1)},
		"cut short":        {"a", good[:len(good)-1]},
		"empty":            {"a", nil},
	} {
		if err := b.Step(tc.from, tc.payload); err == nil || errors.Is(err, ErrBroken) {
			t.Errorf("a message %s: %v", name, err)
		}
	}
	if err := a.Propose(make([]byte, MaxProposal+1)); err == nil {
		t.Error("a proposal over the limit")
	}
	if err := b.Propose([]byte("x")); !errors.Is(err, ErrNotLeader) {
		t.Errorf("proposal at a follower: %v", err)
	}
}

// TestContradiction: a commit index past the log makes the raft library panic; the seat closes instead.
func TestContradiction(t *testing.T) {
	s := newSwarm(t, "a", "b", "c")
	s.tick()
	a, b := s.seats["a"].m, s.seats["b"].m
	send, _ := a.seal(&pb.Message{
		Type: pb.MsgHeartbeat.Enum(), From: new(a.self), To: new(b.self), Term: new(uint64(9)), Commit: new(uint64(1 << 40)),
	})
	if err := b.Step("a", send.Payload); !errors.Is(err, ErrBroken) {
		t.Fatalf("got %v", err)
	}
	b.Tick()
	if _, ok := b.Ready(); ok || b.Leads() {
		t.Error("a broken seat takes part")
	}
}

func FuzzStep(f *testing.F) {
	m, err := New(Config{Key: testKey, Self: voter("b"), Voters: []Voter{voter("a"), voter("b")}})
	if err != nil {
		f.Fatal(err)
	}
	a, err := New(Config{Key: testKey, Self: voter("a"), Voters: []Voter{voter("a"), voter("b")}})
	if err != nil {
		f.Fatal(err)
	}
	a.Tick()
	rd, _ := a.Ready()
	for _, s := range rd.Send {
		f.Add(s.Payload)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if m.broken != nil {
			m, _ = New(m.cfg)
		}
		_ = m.Step("a", data)
		m.Tick()
		m.Ready()
	})
}

func FuzzState(f *testing.F) {
	data, _ := record.Encode(state{[]Voter{voter("a")}, []byte("x")})
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = openState(data) })
}

// TestTurns: whatever they draw, no two voters of a log begin an election at the same moment, and all do in time.
func TestTurns(t *testing.T) {
	for _, names := range []string{"abc", "abcde", "abcdefg"} {
		var vs []Voter
		for _, n := range names {
			vs = append(vs, voter(string(n)))
		}
		var ms []*Machine
		for _, v := range vs {
			m, err := New(Config{Key: testKey, Self: v, Voters: vs})
			if err != nil {
				t.Fatal(err)
			}
			m.hurry = false
			ms = append(ms, m)
		}
		for draw := range ElectionTicks {
			var turns []int
			for i, m := range ms {
				m.jitter = (draw + i*(ElectionTicks-1)) % ElectionTicks
				turns = append(turns, m.patience())
			}
			slices.Sort(turns)
			for i, at := range turns {
				if at <= ElectionTicks || at > 2*ElectionTicks || i > 0 && at < turns[i-1]+2 {
					t.Fatalf("%d voters begin after %v ticks", len(vs), turns)
				}
			}
		}
	}
}
