package nettest

import (
	"strings"
	"testing"
	"time"
)

// Two members of a private swarm behind cone NATs punch a hole too: the coordination goes through the founder's relay, and
// the direct connection begins at the door like any other.
func TestPrivateConeNATs(t *testing.T) {
	l := newLab(t, 3, "--delay", "20ms", "--nat", "2", "--nat-type", "cone")
	home := t.TempDir()
	founder := &daemon{l: l, at: 1, home: home}
	if _, err := founder.shoal(20*time.Second, "swarm", "create", "lab", "--private"); err != nil {
		t.Fatal(err)
	}
	boot := l.startIn(1, home, "--reachability", "public", "--no-mdns")
	addr := boot.addr()
	token, err := boot.shoal(10*time.Second, "swarm", "invite", "--uses", "2", "--expires", "1h")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SHOAL_INVITE", strings.TrimSpace(token))
	var homes []string
	for _, at := range []int{2, 3} {
		d := &daemon{l: l, at: at, home: t.TempDir()}
		if _, err := d.shoal(20*time.Second, "swarm", "join"); err != nil {
			t.Fatal(err)
		}
		homes = append(homes, d.home)
	}
	a := l.startIn(2, homes[0], "--bootstrap", addr, "--no-mdns")
	a.up()
	b := l.startIn(3, homes[1], "--bootstrap", addr, "--no-mdns")
	began := time.Now()
	l.connects(40*time.Second, a, b, "direct")
	t.Logf("direct after %v", time.Since(began))
	if s, err := a.status(); err != nil || s.Reachability.NAT == "symmetric" || s.Reachability.State == "public" {
		t.Errorf("status: %+v %v", s.Reachability, err)
	} else {
		t.Logf("%+v", s.Reachability)
	}
}
