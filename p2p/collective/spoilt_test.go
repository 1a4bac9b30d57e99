package collective

import (
	"math"
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
)

// An owner names the pieces that are not finite in its chunks, whatever they travel in, and no others.
func TestSpoilt(t *testing.T) {
	for _, codec := range []exact.Codec{exact.FP32, exact.BF16, exact.Int8} {
		s := newTestSwarm(t, 1, 3, 3)
		s.round = 1
		s.newPlan([]int{1, 2, 3}, nil)
		s.plan.Codec = codec
		for _, n := range s.nodes {
			for _, e := range n.m.Plan(s.plan) {
				s.perform(n, []Effect{e})
			}
		}
		for i, n := range s.nodes {
			k, v := s.piece(s.plan.Pieces[i])
			if i == 1 {
				v[0] = float32(math.Inf(-1)) // in the first chunk
			}
			s.perform(n, n.m.Local(k, v))
		}
		for s.stepFrames() {
		}
		named := 0
		for _, id := range s.owners() {
			h := s.haves[id]
			if h.NonFinite != (len(h.Spoilt) > 0) || len(h.Spoilt) > 0 && !slices.Equal(h.Spoilt, s.plan.Pieces[1:2]) {
				t.Errorf("%v: not finite %v because of %v", codec, h.NonFinite, h.Spoilt)
			}
			named += len(h.Spoilt)
		}
		if named != 1 {
			t.Errorf("%v: %d owners named the piece", codec, named)
		}
	}
}
