package collective

import (
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// to is a chunk of a result at a member.
type to struct {
	id    record.PeerID
	chunk int
}

// resultsHere lists what members have of the result of the plan in force.
func (s *testSwarm) resultsHere() map[to]bool {
	here := map[to]bool{}
	for _, n := range s.nodes {
		if r := n.m.res; n.alive && r != nil && n.m.plan.Plan == s.plan {
			for c, got := range r.got {
				here[to{n.self.ID, c}] = got
			}
		}
	}
	return here
}

// After a death behind the cut, a member is sent no chunk that it has: not by the owners that stayed, and in codecs without a
// residual not by the successor either. No slice is sent that was on its way to an owner that stayed.
func TestFurtherAttemptSendsWhatIsMissing(t *testing.T) {
	spared := 0
	for seed := range uint64(300) {
		s := newTestSwarm(t, seed, 4, 8)
		s.zero = false
		s.round = 1
		s.newPlan([]int{1, 2, 3, 4, 5}, nil)
		for s.totals == nil && s.step() {
		}
		for range s.rng.IntN(60) {
			s.step()
		}
		victim := s.nodes[seed%4]
		victim.alive = false
		here, before := s.resultsHere(), s.plan
		s.goOn()
		if s.cut == nil {
			continue // a piece died with its maker
		}
		sliced := map[*Frame]bool{}
		for s.step() {
			for _, f := range s.flying {
				if f.frame == nil || f.frame.Key != s.plan.Key || sliced[f.frame] {
					continue
				}
				sliced[f.frame] = true
				switch c := f.frame.Chunk; {
				case f.frame.Kind == FrameResult && here[to{f.to, c}]:
					t.Fatalf("seed %d: chunk %d is sent to %s, which has it", seed, c, f.to)
				case f.frame.Kind == FrameHeld && here[to{f.to, c}]:
					spared++
				case f.frame.Kind == FrameContribution && before.Members[before.Owners[c][0]].ID == f.to:
					t.Fatalf("seed %d: a slice of chunk %d is sent to its owner %s again", seed, c, f.to)
				}
			}
		}
		s.check()
	}
	if spared == 0 {
		t.Error("no result outlived a death")
	}
}

// What an owner sent under an earlier attempt counts only if the owner under the plan in force has the same bytes; and a Done
// that was handed out keeps its numbers.
func TestFurtherAttemptTrustsNobody(t *testing.T) {
	s := newTestSwarm(t, 3, 3, 2)
	s.codec, s.zero = exact.FP32, false
	s.round = 1
	s.newPlan([]int{1, 2, 3}, nil)
	liar := s.node(s.plan.Members[s.plan.Owners[0][0]].ID)
	for s.step() {
		for _, f := range s.flying {
			if f.frame != nil && f.frame.Kind == FrameResult && f.from == liar.self.ID && f.frame.Chunk == 0 && &f.frame.Data[0] == &liar.m.res.v[0] {
				f.frame.Data = slices.Clone(f.frame.Data)
				f.frame.Data[0]++
			}
		}
	}
	wrong := map[*testNode][]float32{}
	first := s.plan.Key
	for _, n := range s.nodes {
		if n != liar {
			if n.done[first].V[0] == s.want()[0] {
				t.Fatal("the lie did not arrive")
			}
			wrong[n] = slices.Clone(n.done[first].V)
		}
	}
	liar.alive = false
	s.goOn()
	for s.step() {
	}
	s.check()
	for n, v := range wrong {
		if !slices.Equal(n.done[first].V, v) {
			t.Errorf("%s: numbers that were handed out changed", n.self.ID)
		}
	}
}
