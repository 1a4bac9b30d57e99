package nettest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// privateSwarm founds one on node 1, with the founder's daemon running, and returns homes of members for the next nodes.
func privateSwarm(t *testing.T, l *lab, members int, founder ...string) (boot *daemon, homes []string) {
	t.Helper()
	home := t.TempDir()
	if _, err := (&daemon{l: l, at: 1, home: home}).shoal(20*time.Second, "swarm", "create", "lab", "--private"); err != nil {
		t.Fatal(err)
	}
	boot = l.startIn(1, home, append(founder, "--no-mdns")...)
	boot.up()
	token, err := boot.shoal(10*time.Second, "swarm", "invite", "--uses", fmt.Sprint(members), "--expires", "1h")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SHOAL_INVITE", strings.TrimSpace(token))
	for i := range members {
		d := &daemon{l: l, at: 2 + i, home: t.TempDir()}
		if _, err := d.shoal(20*time.Second, "swarm", "join"); err != nil {
			t.Fatal(err)
		}
		homes = append(homes, d.home)
	}
	return boot, homes
}

// Two members of a private swarm behind cone NATs punch a hole too: the coordination goes through the founder's relay, and
// the direct connection begins at the door like any other.
func TestPrivateConeNATs(t *testing.T) {
	l := newLab(t, 3, "--delay", "20ms", "--nat", "2", "--nat-type", "cone")
	boot, homes := privateSwarm(t, l, 2, "--reachability", "public")
	addr := boot.addr()
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

// Members of a private swarm test each other's ports, through its door and with knocks: who can be reached says so, and who
// is behind a firewall notices, though it has an address of the internet.
func TestPrivateReachability(t *testing.T) {
	l := newLab(t, 3, "--public")
	if out, err := l.netlab("exec", "3", "nft", "add table ip t; add chain ip t in { type filter hook input priority 0; }; add rule ip t in ct state new iif != lo drop"); err != nil {
		t.Fatalf("nft: %v %s", err, out)
	}
	boot, homes := privateSwarm(t, l, 2)
	nodes := []*daemon{boot, l.startIn(2, homes[0], "--no-mdns"), l.startIn(3, homes[1], "--no-mdns")}
	for i, want := range []string{"direct (tested)", "direct (tested)", "through"} {
		l.eventually(90*time.Second, fmt.Sprintf("node %d says it is reached: %s", i+1, want), func() error {
			s, err := nodes[i].status()
			if err == nil && !strings.HasPrefix(s.Reachability.Verdict, want) {
				err = fmt.Errorf("%+v", s.Reachability)
			}
			return err
		})
	}
	for _, d := range nodes {
		if log, err := os.ReadFile(d.log); err != nil || strings.Contains(string(log), "refused at the swarm's door") {
			t.Errorf("node %d refused a test: %v", d.at, err)
		}
	}
}
