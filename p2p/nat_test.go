package p2p

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

func TestNATGuess(t *testing.T) {
	at := netip.MustParseAddrPort
	home := map[netip.Addr]bool{netip.MustParseAddr("192.168.1.2"): true}
	for _, tc := range []struct {
		name string
		seen []string // by the observers 1, 2, …
		want NAT
	}{
		{"nobody", nil, NATUnknown},
		{"one voice is none", []string{"5.5.5.5:4481"}, NATUnknown},
		{"cone", []string{"5.5.5.5:4481", "5.5.5.5:4481"}, NATCone},
		{"cone with another port", []string{"5.5.5.5:999", "5.5.5.5:999", "5.5.5.5:999"}, NATCone},
		{"one liar", []string{"5.5.5.5:4481", "5.5.5.5:4481", "6.6.6.6:1"}, NATCone},
		{"symmetric", []string{"5.5.5.5:1", "5.5.5.5:2", "5.5.5.5:3"}, NATSymmetric},
		{"no NAT", []string{"192.168.1.2:4481", "192.168.1.2:4481"}, NATNone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var g natGuess
			for i, s := range tc.seen {
				g.add("tcp", 4481, fmt.Sprint(i), at(s))
			}
			if got := g.kind(home); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func TestNATGuessIsBounded(t *testing.T) {
	var g natGuess
	for i := range 1000 {
		g.add("udp", uint16(i), "one", netip.MustParseAddrPort("5.5.5.5:1"))
		g.add("udp", 1, fmt.Sprint(i), netip.MustParseAddrPort("5.5.5.5:1"))
	}
	if len(g.seen) > maxSockets || len(g.seen[socket{"udp", 1}]) > maxSights {
		t.Errorf("%d sockets, %d sights", len(g.seen), len(g.seen[socket{"udp", 1}]))
	}
	// One observer has one voice: the same machine telling many ports makes nobody symmetric.
	var one natGuess
	for port := range 100 {
		one.add("tcp", 1, "liar", netip.AddrPortFrom(netip.MustParseAddr("5.5.5.5"), uint16(port)))
	}
	if got := one.kind(nil); got != NATUnknown {
		t.Errorf("one observer alone makes it %q", got)
	}
}

func TestBridgesAreNotTold(t *testing.T) {
	eth := iface{"eth0", []string{"192.168.1.2"}}
	docker := iface{"docker0", []string{"172.17.0.1", "fe80::1"}}
	ips, names := rejectBridges([]iface{eth, docker, {"br-0f", nil}})
	if len(names) != 1 || !ips["172.17.0.1"] || ips["192.168.1.2"] {
		t.Errorf("rejected %v %v", names, ips)
	}
	if ips, names := rejectBridges([]iface{docker}); len(ips)+len(names) != 0 {
		t.Errorf("the only way out was rejected: %v", names)
	}
}

func TestDialableAnywhere(t *testing.T) {
	private, public := ma.StringCast("/ip4/192.168.1.2/tcp/1"), ma.StringCast("/ip4/5.5.5.5/tcp/1")
	if got := dialableAnywhere([]ma.Multiaddr{private, public}); len(got) != 1 || !got[0].Equal(public) {
		t.Errorf("%v", got)
	}
	if got := dialableAnywhere([]ma.Multiaddr{private}); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

func TestClockMedian(t *testing.T) {
	var c clocks
	if _, n := c.median(); n != 0 {
		t.Error("a median of nothing")
	}
	for i, d := range []time.Duration{time.Hour, time.Second, -time.Second} { // one peer's clock is wrong
		c.note(record.PeerID(rune('a'+i)), d)
	}
	if d, n := c.median(); d != time.Second || n != 3 {
		t.Errorf("%v of %d", d, n)
	}
	c.forget("a")
	for i := range 3 * maxClocks {
		c.note(record.PeerID(fmt.Sprint(i)), 0)
	}
	if _, n := c.median(); n > maxClocks {
		t.Errorf("%d clocks kept", n)
	}
}

func TestRelaySearchSlowsDown(t *testing.T) {
	var s relaySearch
	asked := 0
	start := time.Unix(0, 0)
	for now := start; now.Sub(start) < time.Hour; now = now.Add(5 * time.Second) {
		if s.due(now, 1) {
			asked++
		}
	}
	if asked < 5 || asked > 15 {
		t.Errorf("asked %d times in an hour", asked)
	}
}
