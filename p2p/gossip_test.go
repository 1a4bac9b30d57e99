package p2p

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// publish repeats different messages until one arrives: a mesh takes a moment to form.
func publish(t *testing.T, from *Host, topic string, got <-chan heard) heard {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := range 200 {
		if err := from.Gossip().Publish(within(t), topic, fmt.Appendf(nil, "offer %d", i)); err != nil {
			t.Fatal(err)
		}
		select {
		case h := <-got:
			return h
		case <-tick.C:
		}
	}
	t.Fatal("no gossip arrived")
	return heard{}
}

func TestGossip(t *testing.T) {
	a, b, c := startHost(t, Config{}), startHost(t, Config{}), startHost(t, Config{})
	got := make(chan heard, 1000)
	stop, err := c.Gossip().Subscribe("offers", func(_ record.PeerID, p []byte) error {
		if !bytes.HasPrefix(p, []byte("offer")) {
			return errors.New("no offer")
		}
		return nil
	}, func(from record.PeerID, p []byte) { got <- heard{from, string(p)} })
	if err != nil {
		t.Fatal(err)
	}
	relay, err := b.Gossip().Subscribe("offers", nil, func(record.PeerID, []byte) {})
	if err != nil {
		t.Fatal(err)
	}
	defer relay()
	connect(t, a, b)
	connect(t, c, b)
	if h := publish(t, a, "offers", got); h.from != a.ID() {
		t.Errorf("from %s, the author is %s", h.from, a.ID())
	}
	if err := a.Gossip().Publish(within(t), "offers", []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	if err := a.Gossip().Publish(within(t), "offers", make([]byte, MaxGossip+1)); err == nil {
		t.Error("a message above the limit was published")
	}
	if h := publish(t, a, "offers", got); h.text == "garbage" {
		t.Error("an invalid message was delivered")
	}
	if _, err := c.Gossip().Subscribe("offers", nil, nil); err == nil {
		t.Error("subscribed twice")
	}
	stop()
	again, err := c.Gossip().Subscribe("offers", nil, func(from record.PeerID, p []byte) { got <- heard{from, string(p)} })
	if err != nil {
		t.Fatal(err)
	}
	publish(t, a, "offers", got)
	again()
}
