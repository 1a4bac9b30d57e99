package discovery

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p"
)

// startInternet starts a node as it would run on the internet, but for the router.
func startInternet(t *testing.T, swarm string, low, high int) *p2p.Host {
	t.Helper()
	return startHost(t, p2p.Config{Swarm: swarm, Internet: &p2p.Internet{NoMap: true}, LowConns: low, HighConns: high})
}

// full is set to run tests at the size of the bar; by default they run smaller.
var full = os.Getenv("SHOAL_FULL") != ""

// Fifty nodes (fewer by default) know one bootstrap. It dies. Newcomers with a list of earlier peers join, and nodes that were never
// connected find each other by the job that they work on.
func TestSwarmOutlivesItsBootstrap(t *testing.T) {
	nodes, jobs, newcomers := 12, 3, 2
	if full {
		nodes, jobs, newcomers = 50, 10, 5
	}
	name := fmt.Sprintf("t%d", time.Now().UnixNano()%1e9)
	boot := startInternet(t, name, 64, 128)
	bootD := start(t, boot, Config{Want: 64})
	began := time.Now()
	hosts, finders := make([]*p2p.Host, nodes), make([]*Discovery, nodes)
	caches := make([]*memCache, nodes)
	for i := range hosts {
		hosts[i], caches[i] = startInternet(t, name, 12, 24), &memCache{}
		finders[i] = start(t, hosts[i], Config{Bootstrap: boot.Addrs(), Want: 4, Cache: caches[i]})
		if i%10 < 9 && i < nodes-1 {
			continue // ten at a time: they share one machine, and what takes too long is begun again
		}
		untilAll(t, "everybody has joined", i+1, func(i int) bool {
			return hosts[i].Routing().Size() >= 3 && len(finders[i].Up()) >= 3
		})
	}
	t.Logf("%d nodes in after %v", nodes, time.Since(began))
	bootD.Close()
	boot.Close()
	began = time.Now()
	for i := range jobs { // four members each, all over the swarm
		for k := range 4 {
			finders[(i+k*nodes/4)%nodes].Seek(p2p.RendezvousKey(name, fmt.Sprintf("job %d", i)))
		}
	}
	for i := range newcomers {
		finders[i].Close() // writes its list of peers
		h := startInternet(t, name, 12, 24)
		start(t, h, Config{Cache: caches[i], Want: 4})
		hosts = append(hosts, h)
	}
	untilAll(t, "the newcomers have joined", newcomers, func(i int) bool {
		h := hosts[nodes+i]
		return len(h.Peers()) > 0 && h.Routing().Size() > 3
	})
	t.Logf("newcomers in after %v", time.Since(began))
	var pairs [][2]*p2p.Host
	for i := range jobs {
		for k := range 4 {
			for l := range k {
				a, b := (i+k*nodes/4)%nodes, (i+l*nodes/4)%nodes
				if a >= newcomers && b >= newcomers && a != b { // the others stopped looking above
					pairs = append(pairs, [2]*p2p.Host{hosts[a], hosts[b]})
				}
			}
		}
	}
	untilAll(t, "members of a job are connected", len(pairs), func(i int) bool { return connected(pairs[i][0], pairs[i][1]) })
	t.Logf("members of all jobs met after %v", time.Since(began))
}

// untilAll waits until n things have come about, as long as some more of them do every three minutes, which is more than there
// is between a search of the DHT and the next: how fast it goes is the machine's affair.
func untilAll(t *testing.T, what string, n int, ok func(i int) bool) {
	t.Helper()
	const patience = 3 * time.Minute
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for best := n + 1; ; {
		left := 0
		for i := range n {
			if !ok(i) {
				left++
			}
		}
		if left == 0 {
			return
		}
		if left < best {
			best = left
			limit.Reset(patience)
		}
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("not in time: %s: %d of %d left", what, left, n)
		}
	}
}

func connected(a, b *p2p.Host) bool {
	for _, p := range a.Peers() {
		if p.ID == b.ID() && p.Up {
			return true
		}
	}
	return false
}
