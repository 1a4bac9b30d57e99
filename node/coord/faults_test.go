package coord

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"
)

// phase tells where the leader's round is.
func (s *swarm) phase() string {
	l := s.leader()
	switch {
	case l == nil || l.m.job.plan == nil:
		return ""
	case l.m.job.cut == nil:
		for _, h := range l.m.lead.haves {
			if h != nil {
				return "send"
			}
		}
		return "work"
	case l.m.job.totals == nil:
		return "reduce"
	}
	for _, a := range l.m.lead.acks {
		if a != nil {
			return "gather"
		}
	}
	return "reduce"
}

// victim picks who the fault hits.
func (s *swarm) victim(role string) *run {
	l := s.leader()
	p := l.m.job.plan
	owners := p.owning()
	for i, row := range p.Members {
		owns := false
		for _, o := range owners {
			owns = owns || o == i
		}
		for _, r := range s.living() {
			if r.id == row.ID && (role == "leader") == (r == l) && (role != "owner" || owns) && (role != "member" || !owns) {
				return r
			}
		}
	}
	return nil
}

var (
	matrix = flag.Uint64("matrix", 20, "seeds per cell of the fault matrix; two with -short or -race")
	cell   = flag.Uint64("cell", 0, "run cells of the fault matrix with this seed alone")
)

// TestFaultMatrix: whatever happens to whom in which phase, the job ends with the right weights, and while a majority
// of the keepers is connected the round commits within the slots of dead leaders and two attempts (I5).
func TestFaultMatrix(t *testing.T) {
	swarms, first, last := []int{4, 9}, uint64(1), *matrix
	if raceEnabled || testing.Short() {
		swarms, last = swarms[:1], min(last, 2)
	}
	if *cell > 0 {
		first, last = *cell, *cell
	}
	for _, nodes := range swarms {
		for _, phase := range []string{"work", "send", "reduce", "gather"} {
			for _, fault := range []string{"dead", "frozen", "slow", "garbage"} {
				for _, role := range []string{"member", "owner", "leader"} {
					t.Run(fmt.Sprintf("%d/%s/%s/%s", nodes, phase, fault, role), func(t *testing.T) {
						t.Parallel()
						for seed := first; seed <= last; seed++ {
							faultCell(t, seed, nodes, phase, fault, role)
						}
					})
				}
			}
		}
	}
}

func faultCell(t *testing.T, seed uint64, nodes int, phase, fault, role string) {
	o := options{nodes: nodes, steps: 6, batch: 7, min: nodes, every: 3, zero: seed%2 == 0}
	if role == "member" {
		o.chunks = nodes / 2 // so that some own none
	}
	s := newSwarm(t, seed, o)
	s.g.Again = true
	defer func() {
		if t.Failed() {
			t.Logf("again: go test ./node/coord -run '%s' -cell %d", t.Name(), seed)
		}
	}()
	s.startAll()
	s.until("round 3 is in "+phase, time.Minute, func() bool { return s.round() == 2 && s.phase() == phase })
	v := s.victim(role)
	if v == nil {
		s.fail("nobody is " + role)
	}
	began := s.net.Now()
	undo := s.hit(v, fault)
	s.until("round 3 commits", 40*time.Second, func() bool { return s.done[3] })
	if took := s.net.Now() - began; took > limitOf(fault, role) {
		s.fail(fmt.Sprintf("round 3 took %v after the fault", took))
	}
	undo()
	s.until("the job ends", 3*time.Minute, s.allEnded)
}

// hit does the fault and returns what ends it.
func (s *swarm) hit(v *run, fault string) (undo func()) {
	switch fault {
	case "dead":
		s.net.Kill(v.id)
	case "frozen":
		s.net.Freeze(v.id)
		return func() { s.net.Thaw(v.id) }
	case "slow":
		v.rate = 0.01
		s.net.SetDelay(v.id, 300*time.Millisecond)
		return func() { v.rate = 1; s.net.SetDelay(v.id, 0) }
	case "garbage":
		v.garble, v.spoil = true, true
		return func() { v.garble, v.spoil = false, false }
	}
	return func() {}
}

// limitOf is one slot for a leader that is gone, and two attempts with their deadlines: the first deadlines are 7 s for
// the work and 2 s for the gather, the second attempt's are twice that.
func limitOf(fault, role string) time.Duration {
	limit := 3 * 7 * time.Second
	if role == "leader" {
		limit += slot
	}
	if fault == "dead" {
		limit = slot + 2*time.Second // no deadline has to pass
	}
	return limit
}

// TestWrongWeights: a member whose weights differ from the others' finds that out, fetches the right ones and works again.
func TestWrongWeights(t *testing.T) {
	s := newSwarm(t, 5, options{nodes: 3, steps: 12, batch: 6, min: 3, every: 100})
	s.startAll()
	s.until("round 3", time.Minute, func() bool { return s.round() == 3 })
	bad := s.nodes[2].run
	bad.flip = true
	s.until("the member notices", time.Minute, func() bool { return !bad.ready })
	bad.flip = false
	s.until("the job ends", time.Minute, s.allEnded)
	absent := false
	for _, rep := range s.nodes[0].run.rounds {
		for _, a := range rep.Absent {
			absent = absent || a.Peer == bad.id && a.Why == "weights have another hash"
		}
	}
	if !absent {
		t.Error("no report names the member and the reason")
	}
}

// TestUnstaged: a member that has dropped a committed result fetches the state and works again.
func TestUnstaged(t *testing.T) {
	s := newSwarm(t, 5, options{nodes: 3, steps: 12, batch: 6, min: 3, every: 100})
	s.startAll()
	s.until("round 3", time.Minute, func() bool { return s.round() == 3 })
	s.nodes[2].run.unstage = true
	s.until("the member notices", time.Minute, func() bool { return !s.nodes[2].run.ready })
	s.until("the job ends", time.Minute, s.allEnded)
	if last := s.nodes[0].run.rounds[11]; last.Peers != 3 {
		t.Errorf("%d members worked in the last round", last.Peers)
	}
}

// TestLateJoiner: a node that comes later receives the state and works.
func TestLateJoiner(t *testing.T) {
	s := newSwarm(t, 6, options{nodes: 4, steps: 20, batch: 8, min: 3, every: 5})
	for i := range 3 {
		s.start(i)
	}
	s.until("round 5", time.Minute, func() bool { return s.round() == 5 })
	late := s.start(3)
	s.until("its work counts", time.Minute, func() bool {
		for _, rep := range late.rounds {
			for _, c := range rep.Counted {
				if c.Peer == late.id {
					return rep.Round <= 9
				}
			}
		}
		return false
	})
	s.until("the job ends", time.Minute, s.allEnded)
}

// TestLeave: members, the leader and the submitter leave in turn; nothing has to be computed again for long and the rest
// finish.
func TestLeave(t *testing.T) {
	s := newSwarm(t, 7, options{nodes: 5, steps: 20, batch: 8, min: 5, every: 5})
	s.startAll()
	s.until("round 4", time.Minute, func() bool { return s.round() == 4 })
	first := s.leader()
	first.do(Leave{})
	began := s.net.Now()
	s.until("the leader has left", time.Minute, func() bool { return first.ended != "" })
	if took := s.net.Now() - began; first.ended != "left" || took > leaveWait {
		t.Errorf("ended %q after %v", first.ended, took)
	}
	s.net.Kill(first.id)
	s.until("round 8", time.Minute, func() bool { return s.round() == 8 })
	if took := s.net.Now() - began; took > 6*time.Second {
		t.Errorf("four rounds of 0.2 s took %v after a clean leave", took)
	}
	s.until("the job ends", 2*time.Minute, s.allEnded)
}

// TestAllLeave: where nobody stays, nobody waits for a successor, and no round is worked at meanwhile.
func TestAllLeave(t *testing.T) {
	s := newSwarm(t, 11, options{nodes: 3, steps: 1000, batch: 6, min: 3, every: 4})
	s.startAll()
	s.until("round 10", time.Minute, func() bool { return s.round() == 10 })
	for _, n := range s.nodes {
		n.run.do(Leave{})
	}
	s.until("all have left", leaveWait+time.Second, s.allEnded)
	if s.round() > 13 {
		t.Errorf("trained on to round %d", s.round())
	}
}

// TestSubmitterGone: the submitter is killed, the job goes on without it, and after its restart it learns the end and
// has the last checkpoint.
func TestSubmitterGone(t *testing.T) {
	s := newSwarm(t, 8, options{nodes: 3, steps: 12, batch: 6, min: 3, every: 4})
	s.startAll()
	s.until("round 5", time.Minute, func() bool { return s.round() == 5 })
	s.net.Kill(s.nodes[0].id)
	s.until("the others end", 2*time.Minute, s.allEnded)
	back := s.start(0)
	s.until("the submitter learns it", time.Minute, s.allEnded)
	for _, st := range back.disk.cps {
		if st.round == s.g.Steps {
			return
		}
	}
	t.Error("the submitter has not got the result")
}

// TestAllOffAndOn: after a restart of everything the job goes on from the last settled checkpoint.
func TestAllOffAndOn(t *testing.T) {
	s := newSwarm(t, 9, options{nodes: 3, steps: 15, batch: 6, min: 3, every: 4})
	s.startAll()
	s.until("round 10", time.Minute, func() bool { return s.round() == 10 })
	for _, n := range s.nodes {
		s.net.Kill(n.id)
	}
	began := s.net.Now()
	s.startAll()
	s.until("the job goes on", time.Minute, func() bool { return s.nodes[0].run.m.job.gen == 1 && s.round() > 8 })
	if took := s.net.Now() - began; took > 5*time.Second {
		t.Errorf("the new generation took %v", took)
	}
	if f := s.nodes[0].run.m.job.forks[0]; f.Round != 8 || !f.Regular {
		t.Errorf("fork %+v, want a regular one after round 8", f)
	}
	s.until("the job ends", time.Minute, s.allEnded)
}

// TestMajorityLost: two of three keepers die; after the grace the third goes on alone.
func TestMajorityLost(t *testing.T) {
	s := newSwarm(t, 10, options{nodes: 3, steps: 10, batch: 3, min: 3, every: 4})
	s.startAll()
	s.until("round 5", time.Minute, func() bool { return s.round() == 5 })
	s.net.Kill(s.nodes[0].id)
	s.net.Kill(s.nodes[1].id)
	began := s.net.Now()
	s.until("the job ends", 2*time.Minute, s.allEnded)
	last := s.nodes[2].run
	if last.ended != "done" || last.m.job.gen != 1 || last.m.job.forks[0].Regular {
		t.Errorf("ended %q in generation %d", last.ended, last.m.job.gen)
	}
	t.Logf("done %v after the loss", s.net.Now()-began)
}

// TestCancel: the submitter's word ends the job everywhere, whoever leads.
func TestCancel(t *testing.T) {
	s := newSwarm(t, 11, options{nodes: 4, steps: 50, batch: 4, min: 3, every: 10})
	s.startAll()
	s.until("round 3", time.Minute, func() bool { return s.round() == 3 })
	s.nodes[1].run.do(CancelJob{Why: "not the submitter"})
	s.nodes[0].run.do(CancelJob{Why: "wrong data"})
	s.until("it ends", 10*time.Second, s.allEnded)
	for _, r := range s.living() {
		if r.ended != "cancelled" || r.m.job.cancelled != "wrong data" {
			t.Errorf("%s ended %q: %s", r.id, r.ended, r.m.job.cancelled)
		}
	}
}

// TestLeaderKilledEveryRound: with three keepers or more a round with a dead leader is longer by about one slot, and no
// example is lost: the weights after each round are those of its whole batch.
func TestLeaderKilledEveryRound(t *testing.T) {
	rounds := uint64(50)
	if raceEnabled || testing.Short() {
		rounds = 8
	}
	s := newSwarm(t, 12, options{nodes: 5, steps: rounds + 6, batch: 5, min: 5, every: 100})
	s.startAll()
	var took []time.Duration
	for round := uint64(2); round < 2+rounds; round++ {
		s.until("a leader is in the round", time.Minute, func() bool { return s.round() == round && s.leader() != nil && len(s.living()) == 5 })
		l := s.leader()
		began := s.net.Now()
		s.net.Kill(l.id)
		s.until("the round commits", time.Minute, func() bool { return s.done[round+1] })
		took = append(took, s.net.Now()-began)
		for i, n := range s.nodes {
			if n == l.node {
				s.start(i)
			}
		}
		s.until("the keepers are complete", 2*time.Minute, func() bool { return s.keepersLive() })
	}
	med, worst := median(took), slices.Max(took)
	t.Logf("leader killed in %d rounds: median %v, worst %v; a slot is %v", rounds, med, worst, slot)
	if med > slot || worst > 2*slot {
		t.Errorf("median %v, worst %v: want at most one and two slots of %v; all %v", med, worst, slot, took)
	}
	s.until("the job ends", 2*time.Minute, s.allEnded)
}

// keepersLive tells that all keepers are runs that live and vote.
func (s *swarm) keepersLive() bool {
	l := s.leader()
	if l == nil || !sameVoters(l.m.seat.Voters(), l.m.job.keepers) {
		return false
	}
	for _, k := range l.m.job.keepers {
		ok := false
		for _, r := range s.living() {
			ok = ok || r.m.voter() == k
		}
		if !ok {
			return false
		}
	}
	return true
}
