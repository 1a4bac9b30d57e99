package node

import (
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/node/config"
	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

func TestVerdict(t *testing.T) {
	relays := []record.PeerID{"r1", "r2"}
	for _, tc := range []struct {
		r    p2p.Reachability
		want string
	}{
		{p2p.Reachability{}, "not met the internet"},
		{p2p.Reachability{Seen: []string{"5.5.5.5:4481/tcp"}}, "not tested yet"},
		{p2p.Reachability{Reach: p2p.ReachPublic, Carries: true, Tested: true}, "direct (tested); carries"},
		{p2p.Reachability{Reach: p2p.ReachPublic}, "direct (not tested yet)"},
		{p2p.Reachability{Reach: p2p.ReachPublic, Forced: true}, "direct (as configured)"},
		{p2p.Reachability{Reach: p2p.ReachPrivate, NAT: p2p.NATCone, Relays: relays}, "through 2 relays; behind a NAT that lets holes"},
		{p2p.Reachability{Reach: p2p.ReachPrivate, NAT: p2p.NATSymmetric, Relays: relays[:1]}, "through 1 relay; behind a symmetric NAT"},
		{p2p.Reachability{Reach: p2p.ReachPrivate}, "no relay found yet; it still trains"},
		{p2p.Reachability{Reach: p2p.ReachPrivate, NAT: p2p.NATNone}, "behind a firewall"},
	} {
		if got := verdict(tc.r); !strings.Contains(got, tc.want) {
			t.Errorf("%+v: %q, want %q in it", tc.r, got, tc.want)
		}
	}
}

func TestRemedy(t *testing.T) {
	for why, want := range map[string]string{
		"dial tcp4 44.77.0.1:4481: connect: connection refused":          "start the node",
		"context deadline exceeded":                                      "firewall",
		"dial tcp: lookup nowhere.example: no such host":                 "DNS",
		"connected, but it is not in this swarm or does not admit this…": "--swarm",
		"the node there is X: its identity changed or the address is":    "/p2p/",
		p2p.ErrNoTable.Error():                                           "--bootstrap",
		"something new":                                                  "check that a bootstrap node runs",
	} {
		if got := remedy(why); !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q in it", why, got, want)
		}
	}
}

func TestInternetSettings(t *testing.T) {
	c := config.DefaultNetwork()
	in, err := internet(c)
	if err != nil || in == nil || in.Small || in.NoRelay || in.Reach != p2p.ReachAuto {
		t.Errorf("default: %+v %v", in, err)
	}
	c.Profile, c.Relay, c.Reachability = config.LowPower, "off", "public"
	if in, err = internet(c); err != nil || !in.Small || !in.NoRelay || in.Reach != p2p.ReachPublic {
		t.Errorf("low power: %+v %v", in, err)
	}
	c.Internet = false
	if in, err = internet(c); in != nil || err != nil {
		t.Errorf("off: %+v %v", in, err)
	}
	if want, low, high := dose(config.LowPower); want > low || low > high || high > 16 {
		t.Errorf("low power: %d %d %d", want, low, high)
	}
}
