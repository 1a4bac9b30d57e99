package discovery

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

const ms = time.Millisecond

// dial plays the caller: it takes what is due.
func dial(b *book, now time.Duration) string {
	var ids []string
	for _, e := range b.due(now) {
		ids = append(ids, string(e.id))
	}
	return strings.Join(ids, " ")
}

func TestBookDialsBootstrapsForEver(t *testing.T) {
	b := newBook("m", 4)
	b.found(FromBootstrap, "", "a", []string{"addr"}, 0)
	var at []time.Duration
	for now := time.Duration(0); now < time.Hour; now += 100 * ms {
		if dial(b, now) == "a" {
			at = append(at, now)
			b.dialed("a", "refused", now)
		}
		if b.next(now) > 2*maxBackoff {
			t.Fatal("sleeps too long")
		}
	}
	if len(at) < 45 || len(at) > 100 || at[0] != 0 || at[1] > time.Second {
		t.Errorf("dialed %d times in an hour: %v", len(at), at)
	}
}

func TestBookForgetsOthers(t *testing.T) {
	for _, src := range []Source{FromLAN, FromCache, FromPeer} {
		b := newBook("a", 4)
		b.found(src, "z", "b", []string{"addr"}, 0)
		tries := 0
		for now := time.Duration(0); now < time.Hour; now += 100 * ms {
			if dial(b, now) == "b" {
				tries++
				b.dialed("b", "refused", now)
			}
		}
		if tries != giveUp || len(b.entries) != 0 {
			t.Errorf("%s: %d tries, %d entries", src, tries, len(b.entries))
		}
	}
}

func TestBookRemembersTheGood(t *testing.T) {
	b := newBook("a", 4)
	b.connected("b", []string{"addr"})
	b.lost("b", 0)
	tries := 0
	for now := time.Duration(0); now < 24*time.Hour; now += time.Second {
		if dial(b, now) == "b" {
			tries++
			b.dialed("b", "refused", now)
		}
	}
	if tries != giveUpGood || len(b.entries) != 0 {
		t.Errorf("%d tries, %d entries", tries, len(b.entries))
	}
}

func TestBookRedialsTheLost(t *testing.T) {
	b := newBook("a", 4)
	b.connected("b", []string{"addr"})
	if got := dial(b, 0); got != "" || b.up != 1 {
		t.Fatalf("dials %q, %d up", got, b.up)
	}
	b.lost("b", 1000*ms)
	if got := dial(b, 1000*ms); got != "" {
		t.Error("dialed at once")
	}
	if got := dial(b, 1100*ms); got != "b" {
		t.Errorf("dials %q", got)
	}
	b.connected("b", nil) // its hello may come before the dial returns
	b.dialed("b", "", 1200*ms)
	if e := b.entries["b"]; e.fails != 0 || b.up != 1 || b.dialing != 0 {
		t.Errorf("%+v", e)
	}
}

func TestBookPoliteness(t *testing.T) {
	for _, tc := range []struct {
		self  record.PeerID
		first time.Duration
	}{{"a", 0}, {"c", politeness}} {
		b := newBook(tc.self, 4)
		b.found(FromLAN, "", "b", []string{"addr"}, 0)
		if got := dial(b, tc.first-1); got != "" {
			t.Errorf("%s dials before its turn", tc.self)
		}
		if got := dial(b, tc.first); got != "b" {
			t.Errorf("%s does not dial at %v", tc.self, tc.first)
		}
	}
}

func TestBookLANRenewsHope(t *testing.T) {
	b := newBook("a", 4)
	b.found(FromCache, "", "b", []string{"old"}, 0)
	for now := time.Duration(0); now < 10*time.Second; now += 100 * ms {
		if dial(b, now) != "" {
			b.dialed("b", "refused", now)
		}
	}
	if got := dial(b, 10*time.Second); got != "" {
		t.Fatal("no backoff")
	}
	b.found(FromLAN, "", "b", []string{"old"}, 10*time.Second)
	if got := dial(b, 10*time.Second); got != "" {
		t.Error("an old address is no news")
	}
	b.found(FromPeer, "x", "b", []string{"told"}, 10*time.Second)
	if got := dial(b, 10*time.Second); got != "" {
		t.Error("a stranger lifted the backoff")
	}
	b.found(FromLAN, "", "b", []string{"new"}, 10*time.Second)
	if got := dial(b, 10*time.Second); got != "b" {
		t.Error("a new address is tried at once")
	}
}

func TestBookBounds(t *testing.T) {
	b := newBook("a", 4)
	for i := range 1000 {
		b.found(FromPeer, "liar", record.PeerID(fmt.Sprint("p", i)), []string{"addr"}, 0)
	}
	if len(b.entries) != maxPerTeller {
		t.Errorf("%d peers believed from one", len(b.entries))
	}
	for i := range 5 * maxBook {
		b.found(FromLAN, "", record.PeerID(fmt.Sprint("l", i)), []string{"addr"}, 0)
	}
	if len(b.entries) > maxBook {
		t.Errorf("%d entries", len(b.entries))
	}
	for i := range 100 {
		b.found(FromLAN, "", "l1", []string{fmt.Sprint("addr", i)}, 0)
	}
	if n := len(b.entries["l1"].addrs); n != maxAddrs {
		t.Errorf("%d addresses of one peer", n)
	}
	if n := len(strings.Fields(dial(b, time.Second))); n != maxDialing {
		t.Errorf("%d dials at once", n)
	}
	b.found(FromBootstrap, "", "boot", []string{"addr"}, 0)
	if b.entries["boot"] == nil {
		t.Error("no place for a bootstrap")
	}
}

func TestBookWantsNoMore(t *testing.T) {
	b := newBook("a", 2)
	for _, id := range []record.PeerID{"b", "c", "d"} {
		b.found(FromLAN, "", id, []string{"addr"}, 0)
	}
	b.connected("b", nil)
	b.connected("c", nil)
	if got := dial(b, time.Second); got != "" {
		t.Errorf("dials %q with enough peers", got)
	}
	b.lost("c", time.Second)
	if got := strings.Fields(dial(b, 2*time.Second)); !slices.Equal(got, []string{"d", "c"}) {
		t.Errorf("dials %q", got)
	}
}
