package coord

import (
	"strings"
	"testing"
	"time"
)

// TestAgain: a piece that is not finite is computed once more by others. Where that is because of the data, it counts
// then, and everybody skips the step; where a machine is at fault nothing is lost.
func TestAgain(t *testing.T) {
	s := newSwarm(t, 50, options{nodes: 4, steps: 8, batch: 8, min: 4, every: 4})
	s.g.Again = true
	s.poison = func(p uint64) bool { return p == 33 || p == 35 } // in round 5
	s.startAll()
	s.until("round 2", time.Minute, func() bool { return s.round() == 2 })
	s.nodes[2].run.spoil = true
	s.until("round 3", time.Minute, func() bool { return s.round() == 3 })
	s.nodes[2].run.spoil = false
	s.until("the job ends", time.Minute, s.allEnded)
	for _, rep := range s.nodes[0].run.rounds {
		want := uint32(1)
		if rep.Round == 3 || rep.Round == 5 {
			want = 2
		}
		if rep.Attempts != want || rep.Totals.NonFinite != (rep.Round == 5) {
			t.Errorf("round %d: %d attempts, not finite %v", rep.Round, rep.Attempts, rep.Totals.NonFinite)
		}
		if rep.Round == 3 && (len(rep.Absent) != 1 || rep.Absent[0].Peer != s.nodes[2].id || !strings.Contains(rep.Absent[0].Why, "not finite")) {
			t.Errorf("round 3: %+v", rep.Absent)
		}
	}
}

// TestAgainAlone: without anybody else, and where the job does not ask for it, the step is skipped at once.
func TestAgainAlone(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		s := newSwarm(t, 51, options{nodes: nodes, steps: 4, batch: 8, min: nodes, every: 4})
		s.g.Again = nodes == 1
		s.poison = func(p uint64) bool { return p == 10 }
		s.startAll()
		s.until("the job ends", time.Minute, s.allEnded)
		for _, rep := range s.nodes[0].run.rounds {
			if rep.Attempts != 1 || rep.Totals.NonFinite != (rep.Round == 2) {
				t.Errorf("%d nodes, round %d: %d attempts, not finite %v", nodes, rep.Round, rep.Attempts, rep.Totals.NonFinite)
			}
		}
	}
}
