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
