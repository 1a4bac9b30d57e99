package p2p

import (
	"crypto/rand"
	"encoding/binary"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// full is set to run tests at the size of the bar; by default they run smaller.
var full = os.Getenv("SHOAL_FULL") != ""

// footprint is what a process holds after a collection.
func footprint() (goroutines int, heap uint64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), m.HeapAlloc
}

// Many nodes join and leave a node with everything switched on. What it holds afterwards is what it held before.
func TestJoinsAndLeavesLeaveNothing(t *testing.T) {
	rounds, each := 4, 10
	if full {
		rounds, each = 20, 50
	}
	a := startHost(t, Config{Internet: &Internet{NoMap: true}})
	seen := watch(t, a)
	wave := func() {
		var hosts []*Host
		for range each {
			h, err := New(Config{Listen: []string{}})
			if err != nil {
				t.Fatal(err)
			}
			hosts = append(hosts, h)
			if err := h.Connect(t.Context(), a.Addrs()[0]); err != nil { // connect would leave a context per call
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for range hosts {
			<-seen
		}
		for _, h := range hosts {
			wg.Go(func() { h.Close() })
		}
		wg.Wait()
		for range hosts {
			<-seen
		}
	}
	wave() // fills caches and pools
	goroutines, heap := footprint()
	for range rounds {
		wave()
	}
	eventually(t, "goroutines are back to the start", func() bool { g, _ := footprint(); return g <= goroutines+5 })
	eventually(t, "who left is forgotten", func() bool {
		a.forgetGone(a.now(), 0)
		return len(a.host.Peerstore().Peers()) == 1
	})
	g, m := footprint()
	t.Logf("after %d joins and leaves: goroutines %d → %d, heap %d → %d KiB", rounds*each, goroutines, g, heap>>10, m>>10)
	if !full && m > heap+4<<20 {
		t.Errorf("the heap grew by %d KiB", (m-heap)>>10)
	} else if full { // libp2p's resource manager drops the peers it counted for once a minute
		eventuallyIn(t, 2*time.Minute, "the heap is back to the start", func() bool { _, m = footprint(); return m <= heap+1<<20 })
		t.Logf("a minute later: heap %d KiB", m>>10)
	}
}

// Garbage comes at a node's port, and streams that say hello and then nothing, or a frame byte by byte. Messages between the node
// and its peer go on meanwhile, and the memory stays flat.
func TestGarbageAndSlowLoris(t *testing.T) {
	garbage, loris := 100, 16
	if full {
		garbage = 1000
	}
	a, b := startHost(t, Config{Internet: &Internet{NoMap: true}}), startHost(t, Config{})
	got := make(chan string, 1)
	defer b.Control().Handle("t", func(_ record.PeerID, p []byte) { got <- string(p) })()
	connect(t, b, a)
	attackers := make([]*Host, 4)
	for i := range attackers {
		attackers[i] = startHost(t, Config{})
		connect(t, attackers[i], a)
	}
	goroutines, heap := footprint()
	addr := tcpOf(t, a)
	var wg sync.WaitGroup
	for i := range garbage {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return // refused is fine
			}
			defer c.Close()
			junk := make([]byte, 1+i*97%4096)
			rand.Read(junk)
			c.Write(junk)
			c.SetReadDeadline(time.Now().Add(time.Second))
			c.Read(junk)
		})
		if i%50 == 0 {
			roundtrip(t, a, b, got)
		}
	}
	for _, x := range attackers {
		for i := range loris {
			s, err := x.Open(within(t), a.ID(), controlProtocol)
			if err != nil {
				break // the node's limits hold
			}
			defer s.Reset()
			f := frame{kind: kindMessage, topic: "t", payload: make([]byte, 64<<10)}.append(nil)
			binary.BigEndian.PutUint32(f[4:], MaxPayload)
			s.Write(f[:8+i%8]) // the rest never comes
		}
	}
	began := time.Now()
	for range 20 {
		roundtrip(t, a, b, got)
	}
	took := time.Since(began) / 20
	wg.Wait()
	_, under := footprint()
	t.Logf("message under attack: %v; heap %d → %d KiB", took, heap>>10, under>>10)
	if took > time.Second {
		t.Errorf("a message took %v under attack", took)
	}
	if grown := int64(under) - int64(heap); grown > 32<<20 {
		t.Errorf("the heap grew by %d KiB", grown>>10)
	}
	eventually(t, "the garbage is forgotten", func() bool {
		g, _ := footprint()
		return g <= goroutines+4*(loris+16)*2
	})
}

// roundtrip sends one message that must arrive.
func roundtrip(t *testing.T, a, b *Host, got <-chan string) {
	t.Helper()
	if err := a.Control().Send(b.ID(), "t", []byte("x")); err != nil {
		t.Fatal(err)
	}
	expect(t, got, "x")
}

func tcpOf(t *testing.T, h *Host) string {
	t.Helper()
	for _, text := range h.Addrs() {
		if a := ma.StringCast(strings.Split(text, "/p2p/")[0]); has(a, ma.P_TCP) {
			if _, addr, err := manet.DialArgs(a); err == nil {
				return addr
			}
		}
	}
	t.Fatal("no TCP address")
	return ""
}
