package coord

import (
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/simnet"
)

func TestThreeMembersTrain(t *testing.T) {
	s := newSwarm(t, 1, options{nodes: 3, steps: 10, batch: 6, min: 3, every: 4, keys: true})
	s.startAll()
	s.until("all ended", time.Minute, s.allEnded)
	for _, r := range s.living() {
		if r.ended != "done" || r.st.round != 10 || len(r.rounds) != 10 {
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

// TestEmptyRound: a round without work, from plan to commit, costs a few round trips.
func TestEmptyRound(t *testing.T) {
	const oneWay = 40 * time.Millisecond
	s := newSwarm(t, 3, options{nodes: 4, steps: 40, batch: 4, min: 4, every: 100, perRow: time.Nanosecond, net: simnet.Config{Latency: oneWay, Detect: time.Second}})
	s.step = 0
	s.startAll()
	s.until("round 5", time.Minute, func() bool { return s.round() == 5 })
	began := s.net.Now()
	s.until("round 35", time.Minute, func() bool { return s.round() == 35 })
	trips := float64(s.net.Now()-began) / 30 / float64(2*oneWay)
	t.Logf("an empty round takes %.2f round trips", trips)
	if trips > 6.5 {
		t.Errorf("an empty round takes %.2f round trips, want at most 6.5", trips)
	}
}

// TestReport: the report of a round with a member that froze names it, the phase and the reason, and counts the time of
// all attempts.
func TestReport(t *testing.T) {
	s := newSwarm(t, 4, options{nodes: 4, steps: 6, batch: 8, min: 4, every: 100})
	s.startAll()
	s.until("round 3 is in work", time.Minute, func() bool { return s.round() == 2 && s.phase() == "work" })
	bad, l := s.victim("owner"), s.leader()
	began := s.net.Now()
	s.net.Freeze(bad.id)
	s.until("round 3 commits", time.Minute, func() bool { return s.done[3] })
	took := s.net.Now() - began
	s.net.Thaw(bad.id)
	s.until("the job ends", time.Minute, s.allEnded)
	rep := l.rounds[2]
	if d := rep.Collect + rep.Gather; rep.Round != 3 || rep.Attempts < 2 || d < took-time.Second || d > took+time.Second {
		t.Errorf("round %d took %v and %v in %d attempts; it froze %v", rep.Round, rep.Collect, rep.Gather, rep.Attempts, took)
	}
	for _, a := range rep.Absent {
		if a.Peer == bad.id && a.Phase == "work" && a.Why != "" {
			return
		}
	}
	t.Errorf("no reason for %s in %+v", bad.id, rep.Absent)
}
