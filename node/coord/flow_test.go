package coord

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

func TestFlow(t *testing.T) {
	s := newSwarm(t, 1, options{nodes: 6, steps: 8, batch: 7, min: 6, every: 3, flow: true})
	s.startAll()
	s.until("all ended", time.Minute, s.allEnded)
	for _, r := range s.living() {
		if r.ended != "done" || r.st.round != 8 || len(r.rounds) != 8 {
			t.Errorf("%s ended %q at round %d with %d reports", r.id, r.ended, r.st.round, len(r.rounds))
		}
		for _, rep := range r.rounds {
			if rep.Attempts != 1 || len(rep.Absent) > 0 {
				t.Errorf("round %d took %d attempts, absent %v", rep.Round, rep.Attempts, rep.Absent)
			}
		}
	}
	t.Logf("virtual time %v", s.net.Now())
}

// TestFlowCutPair: two members of neighbouring stages cannot reach each other, though the leader reaches both. One of them
// leaves the pipe, and the round costs no deadline.
func TestFlowCutPair(t *testing.T) {
	for seed := uint64(1); seed <= 8; seed++ {
		s := newSwarm(t, seed, options{nodes: 6, steps: 6, batch: 12, min: 6, every: 3, flow: true})
		s.startAll()
		s.until("round 3 is under way", time.Minute, func() bool { return s.round() == 2 && s.flowPhase() == "forward" })
		stages, l := s.leader().m.job.stages, s.leader().id
		k := int(seed % 2)
		a, b := stages[k].Members[0], stages[k+1].Members[0]
		if a == l || b == l {
			a, b = stages[k].Members[1], stages[k+1].Members[1]
		}
		if a == l || b == l {
			continue
		}
		s.net.Cut(a, b)
		began := s.net.Now()
		s.until("round 3 commits", time.Minute, func() bool { return s.done[3] })
		if took := s.net.Now() - began; took > 3*time.Second {
			t.Errorf("seed %d: round 3 took %v", seed, took)
		}
		s.until("the job ends", time.Minute, s.allEnded)
		s.wantDone()
	}
}

// TestFlowHung: a member's device hangs while its process goes on. Its mate does the work once the deadline has passed.
func TestFlowHung(t *testing.T) {
	s := newSwarm(t, 3, options{nodes: 6, steps: 4, batch: 12, min: 6, every: 3, flow: true})
	s.startAll()
	s.until("round 2 is under way", time.Minute, func() bool { return s.round() == 1 && s.flowPhase() == "forward" })
	s.flowVictim(s.net.Rand()).hung = true
	began := s.net.Now()
	s.until("round 2 commits", 2*time.Minute, func() bool { return s.done[2] })
	t.Logf("round 2 took %v; its deadline is %v", s.net.Now()-began, firstCollect+firstGather)
	for _, r := range s.living() {
		r.hung = false
	}
	s.until("the job ends", 2*time.Minute, s.allEnded)
	s.wantDone()
}

// TestFlowLeave: a member that leaves is not waited for.
func TestFlowLeave(t *testing.T) {
	s := newSwarm(t, 3, options{nodes: 6, steps: 8, batch: 12, min: 6, every: 3, flow: true})
	s.startAll()
	s.until("round 3 is under way", time.Minute, func() bool { return s.round() == 2 && s.flowPhase() == "backward" })
	for range 2 {
		v := s.flowVictim(s.net.Rand())
		v.do(Leave{})
		s.until("it has left", leaveWait+time.Second, func() bool { return v.ended != "" })
		s.net.Kill(v.id)
	}
	began := s.net.Now()
	s.until("the job ends", time.Minute, s.allEnded)
	s.wantDone()
	if took := s.net.Now() - began; took > 8*time.Second {
		t.Errorf("it took %v more", took)
	}
}

// TestRearrange: stages stay as they are while each has a member, grow where a node joins, and are cut anew for speed only
// when that was better in three rounds, and wins back what it takes.
func TestRearrange(t *testing.T) {
	s := newSwarm(t, 1, options{nodes: 1, steps: 40, batch: 4, min: 1, every: 3, flow: true})
	cut := 2 // where Arrange would cut two stages, if nothing is there
	s.g.Pipeline.Arrange = func(nodes []Node, now []Stage) ([]Stage, error) {
		if len(nodes) < 2 {
			return nil, fmt.Errorf("units %d to 6 need 3 GB more", cut)
		}
		if now != nil {
			out := slices.Clone(now)
			for i := range out {
				out[i].Members = nil
				for k, n := range nodes {
					if k%2 == i {
						out[i].Members = append(out[i].Members, n.ID)
					}
				}
			}
			return out, nil
		}
		return []Stage{{0, cut, []record.PeerID{nodes[0].ID}}, {cut, 6, []record.PeerID{nodes[1].ID}}}, nil
	}
	m, err := New(s.g, Self{ID: "n0", Boot: 1, Signer: plainKeys{"n0"}}, Capability{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.lead = &lead{}
	node := func(id record.PeerID, pace time.Duration) Node { return Node{ID: id, Pace: pace} }
	nodes := []Node{node("a", time.Second), node("b", time.Second)}
	arrange := func(round uint64) string {
		got, err := m.rearrange(nodes, round)
		if err != nil {
			return err.Error()
		}
		m.job.stages = got
		return fmt.Sprint(got)
	}
	for i, want := range []struct {
		do   func()
		want string
	}{
		{func() {}, "[{0 2 [a]} {2 6 [b]}]"},
		{func() { cut = 3 }, "[{0 2 [a]} {2 6 [b]}]"}, // 3 seconds instead of 4, in rounds 2 to 4
		{func() {}, "[{0 2 [a]} {2 6 [b]}]"},
		{func() {}, "[{0 3 [a]} {3 6 [b]}]"},
		{func() { cut = 1 }, "[{0 3 [a]} {3 6 [b]}]"},
		{func() { nodes[0].Pace, cut = 2*time.Second, 2 }, "[{0 3 [a]} {3 6 [b]}]"}, // 4 seconds instead of 6, once more in rounds 6 to 11
		{func() {}, "[{0 3 [a]} {3 6 [b]}]"}, {func() {}, "[{0 3 [a]} {3 6 [b]}]"}, {func() {}, "[{0 3 [a]} {3 6 [b]}]"},
		{func() {}, "[{0 3 [a]} {3 6 [b]}]"}, {func() {}, "[{0 2 [a]} {2 6 [b]}]"},
		{func() { nodes[0].Pace, cut = time.Second, 3; nodes[1].Pace = time.Second }, "[{0 2 [a]} {2 6 [b]}]"},
		{func() { nodes = append(nodes, node("c", time.Second)) }, "[{0 2 [a c]} {2 6 [b]}]"},
		{func() { nodes = nodes[:1] }, "units 3 to 6 need 3 GB more"},
	} {
		want.do()
		if got := arrange(uint64(i + 1)); got != want.want {
			t.Errorf("round %d: %s, want %s", i+1, got, want.want)
		}
	}
}
