package nettest

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// Two cold daemons on one LAN find each other by multicast DNS alone. The time counts from the start of both processes to the
// first answer of "shoal peers" that names the other, asked again and again from within the node.
func TestLANColdStart(t *testing.T) {
	l := newLab(t, 2, "--public")
	attempts(t, func() error { return l.coldStarts(20) })
}

func (l *lab) coldStarts(n int) error {
	t := l.t
	t.Helper()
	var all []time.Duration
	for range n {
		began := time.Now()
		a, b := l.start(1), l.start(2)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		ask := l.command(ctx, "exec", "1", "sh", "-c", fmt.Sprintf("until %s --home %s peers 2>/dev/null | grep -q 12D; do :; done", l.bin, a.home))
		err := ask.Run()
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, time.Since(began))
		a.stop()
		b.stop()
	}
	slices.Sort(all)
	median := all[len(all)/2]
	t.Logf("median of %d: %v, worst %v", len(all), median, all[len(all)-1])
	if median > time.Second {
		return fmt.Errorf("median %v, the bar is 1 s", median)
	}
	return nil
}

// All bootstraps are down when a node starts; after a minute one comes back, and the node joins by itself.
func TestBootstrapComesBack(t *testing.T) {
	l := newLab(t, 2, "--public")
	boot := l.start(1, "--no-mdns")
	addr := boot.addr()
	boot.stop()
	os.Remove(boot.home + "/api")
	d := l.start(2, "--no-mdns", "--bootstrap", addr)
	d.up()
	wait := 60 * time.Second
	if s, err := strconv.Atoi(os.Getenv("SHOAL_NETLAB_WAIT")); err == nil {
		wait = time.Duration(s) * time.Second
	}
	down := time.NewTimer(wait)
	defer down.Stop()
	<-down.C
	if s, err := d.status(); err != nil || s.Peers != 0 {
		t.Fatalf("status while all are down: %+v %v", s, err)
	}
	out, err := d.shoal(10*time.Second, "doctor", "net")
	if err == nil {
		t.Errorf("the doctor found nothing: %s", out)
	}
	t.Logf("doctor net, all bootstraps down:\n%s", out)
	boot.run("--no-mdns")
	took := l.connects(90*time.Second, d, boot, "direct")
	t.Logf("joined %v after the bootstrap was back", took)
}
