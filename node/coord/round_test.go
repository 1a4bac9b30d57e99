package coord

import (
	"testing"
	"time"
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
