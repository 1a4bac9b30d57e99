package p2p

import (
	"slices"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

func TestGoneInOrderOfLeaving(t *testing.T) {
	var g gone
	for i, id := range []record.PeerID{"a", "b", "c", "d"} {
		g.add(id, time.Duration(i)*time.Second)
	}
	g.back("b")
	g.add("a", 4*time.Second)
	if got := g.due(0, 4); got != nil {
		t.Errorf("nobody is due, got %v", got)
	}
	if got := g.due(0, 2); !slices.Equal(got, []record.PeerID{"c"}) {
		t.Errorf("one too many: got %v, want the one that left first and stayed away", got)
	}
	if got := g.due(4*time.Second, 2); !slices.Equal(got, []record.PeerID{"d"}) {
		t.Errorf("left before: got %v", got)
	}
	if got := g.due(5*time.Second, 2); !slices.Equal(got, []record.PeerID{"a"}) || len(g.order)+len(g.since) != 0 {
		t.Errorf("at the end: got %v, left over %+v", got, g)
	}
}

// A protected peer, as a member of a job, is remembered as long as it is protected.
func TestProtectedIsNotForgotten(t *testing.T) {
	a, b := startHost(t, Config{}), startHost(t, Config{})
	connect(t, a, b)
	seen := watch(t, a)
	<-seen
	a.Protect(b.ID(), "job")
	b.Close()
	<-seen
	known := func() bool { a.forgetGone(a.now()+1, 0); return len(a.Known(b.ID())) > 0 }
	eventually(t, "the link gives up", func() bool { return !a.control.waits(b.ID()) })
	if !known() {
		t.Error("the protected peer is forgotten")
	}
	a.Unprotect(b.ID(), "job")
	eventually(t, "the peer is forgotten", func() bool { return !known() })
}
