package coord

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// TestRollback: in every phase of a round the submitter orders that the job goes on from a checkpoint. It does, at once,
// and ends with the right weights.
func TestRollback(t *testing.T) {
	for i, phase := range []string{"work", "send", "reduce", "gather"} {
		t.Run(phase, func(t *testing.T) {
			s := newSwarm(t, 30+uint64(i), options{nodes: 4, steps: 16, batch: 7, min: 4, every: 4})
			s.startAll()
			s.until("round 11 is in "+phase, time.Minute, func() bool { return s.round() == 10 && s.phase() == phase })
			s.nodes[1].run.do(GoBack{Order: 1}) // not the submitter's
			first := s.nodes[0].run
			first.do(GoBack{Order: 1, To: first.m.job.settled[0]})
			began := s.net.Now()
			s.until("everybody is back", time.Minute, func() bool {
				return !slices.ContainsFunc(s.living(), func(r *run) bool { return r.m.job.order() != 1 || !slices.Contains(r.back, 4) })
			})
			s.until("round 5 commits again", time.Minute, func() bool { return first.m.job.round == 5 })
			if took := s.net.Now() - began; took > 4*time.Second {
				t.Errorf("round 5 committed %v after the order", took)
			}
			first.do(GoBack{Order: 1}) // carried out already
			s.until("the job ends", time.Minute, s.allEnded)
			for _, r := range s.living() {
				if r.ended != "done" || r.m.job.gen != 1 {
					t.Errorf("%s ended %q in generation %d", r.id, r.ended, r.m.job.gen)
				}
			}
		})
	}
}

// TestRollbackPartition: the order is given on the smaller side of a partition, while the other side goes on. When they
// meet, what was ordered wins, though the other side has the keepers, more rounds and a newer checkpoint.
func TestRollbackPartition(t *testing.T) {
	s := newSwarm(t, 40, options{nodes: 5, steps: 40, batch: 7, min: 5, every: 4})
	s.startAll()
	s.until("round 9", time.Minute, func() bool { return s.round() == 9 })
	s.net.Partition([]record.PeerID{"n0", "n1"})
	first, other := s.nodes[0].run, s.nodes[4].run
	at := other.m.job.round
	s.until("the larger side goes on", time.Minute, func() bool { return other.m.job.lastSettled().Round > at })
	first.do(GoBack{Order: 1, To: first.m.job.settled[0]})
	s.until("the smaller side goes on", time.Minute, func() bool { return first.m.job.gen == 1 && first.m.job.round >= 6 })
	ahead := other.m.job.round
	s.net.Heal()
	s.until("all have the order", time.Minute, func() bool {
		return !slices.ContainsFunc(s.living(), func(r *run) bool { return r.m.job.order() != 1 })
	})
	if first.m.job.round >= ahead {
		t.Errorf("round %d is not behind the other side's %d", first.m.job.round, ahead)
	}
	s.until("the job ends", time.Minute, s.allEnded)
}

// TestResume: a cancelled job whose members are told of the order to go on begins again at its checkpoint; who is not told
// stays out of it.
func TestResume(t *testing.T) {
	s := newSwarm(t, 41, options{nodes: 4, steps: 20, batch: 7, min: 3, every: 4})
	s.startAll()
	s.until("round 10", time.Minute, func() bool { return s.round() == 10 })
	first := s.nodes[0].run
	first.do(CancelJob{Why: "a pause"})
	s.until("it ends", time.Minute, s.allEnded)
	to := first.m.job.lastSettled()
	s.g.Ordered = 1
	for i := range 3 {
		s.net.Kill(s.nodes[i].id)
		if i == 1 {
			s.start(1) // before the submitter: it waits for the order
		}
	}
	waits := s.nodes[1].run
	s.until("nothing happens without the order", 2*time.Minute, func() bool { return s.net.Now() > 60*time.Second })
	if waits.m.job.gen != 0 || waits.ended != "" {
		t.Errorf("generation %d, ended %q without the order", waits.m.job.gen, waits.ended)
	}
	s.start(2)
	s.start(0).do(GoBack{Order: 1, To: to})
	s.until("it is done", time.Minute, func() bool {
		return !slices.ContainsFunc(s.living()[:3], func(r *run) bool { return r.ended != "done" })
	})
	if late := s.nodes[3].run; late.ended != "cancelled" || late.m.job.gen != 0 {
		t.Errorf("who was not told ended %q in generation %d", late.ended, late.m.job.gen)
	}
}

// TestDiverge: five rounds that are not finite send the job back to the checkpoint before them. It takes the batches since
// then last, and every position counts once.
func TestDiverge(t *testing.T) {
	for _, nodes := range []int{1, 4} {
		s := newSwarm(t, 42, options{nodes: nodes, steps: 30, batch: 4, min: nodes, every: 4})
		s.g.BadRounds = 5
		s.poison = func(p uint64) bool { return p >= 36 && p < 64 } // batches 10 to 16
		s.startAll()
		s.until("the job ends", 5*time.Minute, s.allEnded)
		for _, r := range s.living() {
			j := r.m.job
			if r.ended != "done" || !slices.Equal(j.moves, []Move{{At: 8, Count: 6}}) || j.strikes != 1 {
				t.Errorf("%d nodes: %s ended %q, moves %v, %d strikes; notes %q", nodes, r.id, r.ended, j.moves, j.strikes, r.notes)
			}
		}
	}
}

// TestDivergeWithFaults: the leader dies on the way back.
func TestDivergeWithFaults(t *testing.T) {
	s := newSwarm(t, 43, options{nodes: 5, steps: 30, batch: 4, min: 5, every: 4})
	s.g.BadRounds = 5
	s.poison = func(p uint64) bool { return p >= 36 && p < 56 }
	s.startAll()
	s.until("it diverged", time.Minute, func() bool { l := s.leader(); return l != nil && l.m.turningBack() })
	s.net.Kill(s.leader().id)
	s.until("the others end", 5*time.Minute, s.allEnded)
	for _, r := range s.living() {
		if j := r.m.job; r.ended != "done" || len(j.moves) != 1 || j.moves[0].At != 8 {
			t.Errorf("%s ended %q, moves %v", r.id, r.ended, j.moves)
		}
	}
}

// TestDivergeTwice: where the checkpoint itself is what diverges, the job goes back to the one before.
func TestDivergeTwice(t *testing.T) {
	s := newSwarm(t, 45, options{nodes: 3, steps: 40, batch: 4, min: 3, every: 4})
	s.g.BadRounds = 5
	s.poison = func(p uint64) bool { return p >= 36 && p < 76 } // batches 10 to 19: the first move does not pass them
	s.startAll()
	s.until("the job ends", 5*time.Minute, s.allEnded)
	for _, r := range s.living() {
		if j := r.m.job; r.ended != "done" || len(j.moves) != 2 || j.moves[0].At != 8 || j.moves[1].At != 4 {
			t.Errorf("%s ended %q, moves %v", r.id, r.ended, j.moves)
		}
	}
}

// TestHopeless: a job that never gets finite again fails after three returns and says why.
func TestHopeless(t *testing.T) {
	s := newSwarm(t, 44, options{nodes: 3, steps: 60, batch: 4, min: 3, every: 4})
	s.g.BadRounds = 5
	s.poison = func(p uint64) bool { return p >= 20 }
	s.startAll()
	s.until("the job ends", 5*time.Minute, s.allEnded)
	for _, r := range s.living() {
		if r.ended != "failed" || r.m.job.strikes != maxStrikes || !strings.Contains(r.m.job.cancelled, "diverged 4 times") {
			t.Errorf("%s ended %q after %d returns: %s", r.id, r.ended, r.m.job.strikes, r.m.job.cancelled)
		}
	}
}
