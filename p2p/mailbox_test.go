package p2p

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

func TestMailbox(t *testing.T) {
	b := newMailbox(limits{peerCount: 3, peerBytes: 1000, count: 5, bytes: 10000})
	dropped := 0
	put := func(peer, topic string, size int) {
		dropped += b.put(message{peer: record.PeerID(peer), topic: topic, payload: make([]byte, size)})
	}
	state := func() string {
		var s []string
		for _, m := range b.q {
			s = append(s, fmt.Sprintf("%s%s", m.peer, m.topic))
		}
		return strings.Join(s, " ")
	}
	for i, step := range []struct {
		do   func()
		want string
	}{
		{func() { put("a", "1", 0); put("b", "1", 0); put("a", "2", 0); put("a", "3", 0) }, "a1 b1 a2 a3"},
		{func() { put("a", "4", 0) }, "b1 a2 a3 a4"},                      // a's own oldest goes
		{func() { put("c", "1", 0); put("c", "2", 0) }, "a2 a3 a4 c1 c2"}, // full: the oldest of all goes
		{func() { put("c", "big", 950) }, "a2 a3 a4 c1 c2"},               // can never fit
		{func() { put("c", "3", 800) }, "a3 a4 c1 c2 c3"},
		{func() { put("c", "4", 800) }, "a3 a4 c4"},
		{func() { b.take() }, "a4 c4"},
	} {
		step.do()
		if got := state(); got != step.want {
			t.Fatalf("step %d: %q, want %q", i, got, step.want)
		}
	}
	if dropped != 7 {
		t.Errorf("%d dropped", dropped)
	}
	for range 2 {
		b.take()
	}
	if _, ok := b.take(); ok || b.bytes != 0 || len(b.per) != 0 {
		t.Errorf("empty mailbox counts %d bytes of %d peers", b.bytes, len(b.per))
	}
}

func TestMailboxExtract(t *testing.T) {
	from, to := newMailbox(waitLimits), newMailbox(topicLimits)
	for i := range 10 {
		from.put(message{peer: "p", topic: fmt.Sprint(i % 2), payload: []byte{byte(i)}})
	}
	from.extract("1", to)
	if len(from.q) != 5 || len(to.q) != 5 {
		t.Fatalf("%d stayed, %d moved", len(from.q), len(to.q))
	}
	for i, m := range to.q {
		if m.payload[0] != byte(2*i+1) {
			t.Errorf("message %d at place %d", m.payload[0], i)
		}
	}
}
