package p2p

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Two nodes of which one cannot be dialed meet at a third. Control streams and bulk go through it, and once there is a
// direct way, everything moves over.
func TestThroughARelay(t *testing.T) {
	t.Parallel() // it waits for the relayed connection to be given up
	relay := startHost(t, Config{Internet: &Internet{Reach: ReachPublic, NoMap: true}})
	hidden := startHost(t, Config{Listen: []string{}, Internet: &Internet{Reach: ReachPrivate, NoMap: true}})
	other := startHost(t, Config{Internet: &Internet{NoMap: true}})
	connect(t, hidden, relay)
	connect(t, other, relay)
	eventually(t, "the relay's service runs", func() bool {
		ok, err := hidden.host.Peerstore().SupportsProtocols(relay.host.ID(), proto.ProtoIDv2Hop)
		return err == nil && len(ok) > 0
	})
	if _, err := circuit.Reserve(within(t), hidden.host, peer.AddrInfo{ID: relay.host.ID(), Addrs: relay.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	hidden.Handle("/test/echo/1", func(s *Stream) { defer s.Close(); io.Copy(s, s) })
	seen := watch(t, hidden)
	addr := relay.Addrs()[0] + "/p2p-circuit/p2p/" + string(hidden.ID())
	if err := other.Connect(within(t), addr); err != nil {
		t.Fatal(err)
	}
	for c := range seen {
		if c == (change{other.ID(), true}) {
			break
		}
	}
	// The hidden node may have dialed the other directly by now, which leaves the relayed connection for two more seconds.
	if p := find(other, hidden); !strings.Contains(strings.Join(p.Addrs, " "), "/p2p-circuit") {
		t.Errorf("peer: %+v", p)
	}
	s, err := other.Open(within(t), hidden.ID(), "/test/echo/1")
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("shoal"), 200_000) // more than a relay's usual limit of 128 KiB
	go func() {
		s.Write(sent)
		s.CloseWrite()
	}()
	s.SetReadDeadline(time.Now().Add(20 * time.Second))
	if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes came back of %d: %v", len(got), len(sent), err)
	}
	direct := network.WithForceDirectDial(within(t), "test")
	if err := hidden.host.Connect(direct, peer.AddrInfo{ID: other.host.ID(), Addrs: other.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Logf("other sees %+v, hidden sees %+v", find(other, hidden), find(hidden, other))
		}
	}()
	eventually(t, "the relayed connection is left", func() bool { p := find(other, hidden); return p.Up && len(p.Addrs) == 1 && !p.Relayed })
	got := make(chan string, 1)
	defer hidden.Control().Handle("t", func(_ record.PeerID, b []byte) {
		select {
		case got <- string(b):
		default:
		}
	})()
	eventually(t, "a message comes", func() bool { // those on their way over the relay are lost
		if err := other.Control().Send(hidden.ID(), "t", []byte("x")); err != nil {
			t.Fatal(err)
		}
		return len(got) > 0
	})
}

func find(h, of *Host) PeerInfo {
	for _, p := range h.Peers() {
		if p.ID == of.ID() {
			return p
		}
	}
	return PeerInfo{}
}

func TestInternetRefusesNonsense(t *testing.T) {
	if h, err := New(Config{Listen: loopback, Internet: &Internet{Announce: []string{"example.org"}}}); err == nil || !strings.Contains(err.Error(), "announce") {
		t.Error(err)
		h.Close()
	}
	if _, err := ParseReach("maybe"); err == nil {
		t.Error("reachability maybe was accepted")
	}
}

func TestAnnounced(t *testing.T) {
	h := startHost(t, Config{Internet: &Internet{NoMap: true, Announce: []string{"/dns4/example.org/tcp/4481"}}})
	for _, a := range h.Addrs() {
		if strings.HasPrefix(a, "/dns4/example.org/tcp/4481/p2p/") {
			return
		}
	}
	t.Errorf("addresses %v", h.Addrs())
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	eventuallyIn(t, 20*time.Second, what, ok)
}

func eventuallyIn(t *testing.T, max time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(max)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not in time: %s", what)
		}
	}
}
