package coord

import (
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
)

// TestShares: who sends at an eighth of the others' rate owns about an eighth of what they own; who has not measured its
// rate counts like the mean. Noise moves nothing, a change of class does, and equal rates leave plans as they are.
func TestShares(t *testing.T) {
	s := newSwarm(t, 51, options{nodes: 4, steps: 40, batch: 4, min: 4, every: 50})
	s.g.Chunks = nil
	for i := range 400 { // many, so that shares show
		s.g.Chunks = append(s.g.Chunks, collective.Chunk{Lo: i, Hi: i + 1, Unit: i / 100})
	}
	for i, up := range []float64{8e6, 1e6, 9e6, 0} {
		s.nodes[i].uplink = up
	}
	s.startAll()
	s.until("round 3", time.Minute, func() bool { return s.round() == 3 })
	fast, slow := s.owns(0), s.owns(1)
	if slow < fast/16 || slow > fast/4 {
		t.Errorf("the slow member owns %d chunks, a fast one %d: want about an eighth", slow, fast)
	}
	before := s.ownersNow()
	announce := func(i int, up float64) {
		r := s.nodes[i].run
		r.do(Measured{Capability{RowsPerSec: r.m.cap.RowsPerSec, BytesPerSec: up, Versions: []int{1}}})
	}
	announce(0, 6e6)
	announce(1, 1.3e6)
	s.until("round 8", time.Minute, func() bool { return s.round() == 8 })
	if moved := differ(before, s.ownersNow()); moved > 0 {
		t.Errorf("noise moved %d chunks", moved)
	}
	announce(0, 9e6)
	announce(1, 9e6)
	s.until("round 12", time.Minute, func() bool { return s.round() == 12 })
	if p := s.leader().m.job.plan; len(p.Shares) > 0 || s.owns(1) < 80 {
		t.Errorf("shares %v; the member that was slow owns %d of 400 chunks", p.Shares, s.owns(1))
	}
	s.until("the job ends", time.Minute, s.allEnded)
}

// owns is how many chunks node i owns.
func (s *swarm) owns(i int) (n int) {
	for _, id := range s.ownersNow() {
		if id == string(s.nodes[i].id) {
			n++
		}
	}
	return n
}

// ownersNow names each chunk's owner in the plan in force.
func (s *swarm) ownersNow() (ids []string) {
	p := s.leader().m.job.plan
	for _, os := range p.parts.Owners {
		ids = append(ids, string(p.Members[os[0]].ID))
	}
	return ids
}

func differ(a, b []string) (n int) {
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// TestSharesChecked: what a plan says of shares fits who may own.
func TestSharesChecked(t *testing.T) {
	rows := []Row{{ID: "a"}, {ID: "b", Aside: true}, {ID: "c"}, {ID: "d", Syncing: true}}
	for _, tc := range []struct {
		shares string
		ok     bool
	}{{"", true}, {"\x10\x01", true}, {"\x10", false}, {"\x10\x01\x01", false}, {"\x10\x00", false}, {"\x10\x03", false}, {"\x10\x20", false}} {
		p := PlanEntry{Members: rows, Codec: "fp32", Collect: 1, Gather: 1, Shares: []byte(tc.shares)}
		if err := p.check(); (err == nil) != tc.ok {
			t.Errorf("shares %q: %v", tc.shares, err)
		}
	}
	if err := (&PlanEntry{Members: []Row{{ID: "a", Aside: true}}, Codec: "fp32", Collect: 1, Gather: 1}).check(); err == nil {
		t.Error("a plan that nobody may own in is taken")
	}
}
