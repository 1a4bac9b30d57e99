package coord

import (
	"fmt"
	"testing"
	"time"
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
	_ = fmt.Sprint()
}
