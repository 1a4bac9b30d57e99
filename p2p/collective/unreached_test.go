package collective

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
)

// TestUnreached: a peer is out of reach from the first failure until something gets through, a refusal too, or long after
// that, so that it is tried again.
func TestUnreached(t *testing.T) {
	g := &Group{retries: map[record.PeerID]*retry{}}
	gone := errors.New("no route")
	for _, id := range []record.PeerID{"c", "b", "a"} {
		g.noteReach(id, gone)
	}
	g.noteReach("d", xfer.ErrCanceled)
	g.noteReach("b", RefusedUnknown)
	want := func(after time.Duration, ids ...record.PeerID) {
		t.Helper()
		if got := g.Unreached(after); !slices.Equal(got, ids) {
			t.Errorf("out of reach for %v: %v, want %v", after, got, ids)
		}
	}
	want(0, "a", "c")
	want(time.Second)
	g.retries["a"].since = time.Now().Add(-time.Minute)
	g.noteReach("a", gone) // it is not the first
	want(time.Second, "a")
	g.noteReach("a", nil)
	want(0, "c")
	g.retries["c"].since = time.Now().Add(-2 * reachAgain)
	want(0)
	g.noteReach("c", gone)
	want(0, "c")
}
