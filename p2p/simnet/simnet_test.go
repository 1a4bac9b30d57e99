package simnet

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

const ms = time.Millisecond

// inbox collects what a node gets, as text.
type inbox []string

func (in *inbox) handler(n *Net) Handler {
	return Handler{
		Receive: func(from record.PeerID, msg any) { *in = append(*in, fmt.Sprintf("%v %s:%v", n.Now(), from, msg)) },
		Peer:    func(id record.PeerID, up bool) { *in = append(*in, fmt.Sprintf("%v %s up=%v", n.Now(), id, up)) },
		Lost:    func(to record.PeerID, msg any) { *in = append(*in, fmt.Sprintf("%v lost %s:%v", n.Now(), to, msg)) },
	}
}

func (in inbox) want(t *testing.T, want ...string) {
	t.Helper()
	if !reflect.DeepEqual([]string(in), want) {
		t.Fatalf("got  %q\nwant %q", in, want)
	}
}

func two(cfg Config) (n *Net, a, b *inbox) {
	n, a, b = New(1, cfg), new(inbox), new(inbox)
	n.Node("a", a.handler(n))
	n.Node("b", b.handler(n))
	return n, a, b
}

func TestLatencyBandwidthAndOrder(t *testing.T) {
	n, _, b := two(Config{Latency: 10 * ms, BytesPerSec: 1e6})
	n.Send("a", "b", "bulk1", 100_000) // 100 ms up
	n.Send("a", "b", "bulk2", 100_000)
	n.Send("a", "b", "small", 100)
	n.Run(time.Second)
	b.want(t, "10ms a up=true", "10ms a:small", "110ms a:bulk1", "210ms a:bulk2")
	if n.Now() != time.Second || n.Pending() != 0 {
		t.Fatalf("now %v, %d pending", n.Now(), n.Pending())
	}
}

func TestJitterKeepsOrder(t *testing.T) {
	n := New(5, Config{Latency: ms, Jitter: 50 * ms})
	var got []int
	n.Node("a", Handler{})
	n.Node("b", Handler{Receive: func(_ record.PeerID, msg any) { got = append(got, msg.(int)) }})
	for i := range 100 {
		n.After(time.Duration(i)*ms, func() { n.Send("a", "b", i, 10) })
	}
	n.Run(time.Second)
	for i, g := range got {
		if i != g {
			t.Fatalf("message %d came at place %d", g, i)
		}
	}
	if len(got) != 100 {
		t.Fatalf("%d came", len(got))
	}
}

func TestCutAndMend(t *testing.T) {
	n, a, b := two(Config{Latency: 10 * ms, Detect: 100 * ms})
	n.Send("a", "b", 1, 1)
	n.Run(20 * ms)
	n.Send("a", "b", "underway", 1)
	n.CutOneWay("a", "b")
	n.Send("b", "a", "still", 1)
	n.Run(500 * ms)
	n.Mend("a", "b")
	n.Send("a", "b", 2, 1)
	n.Run(time.Second)
	b.want(t, "10ms a up=true", "10ms a:1", "120ms a up=false", "510ms a:2", "600ms a up=true")
	a.want(t, "10ms b up=true", "30ms b:still", "120ms b up=false", "130ms lost b:underway", "600ms b up=true")
}

func TestPartitionAndHeal(t *testing.T) {
	n, a, b := two(Config{Detect: 10 * ms})
	n.Connect("a", "b")
	n.Run(ms)
	n.Partition([]record.PeerID{"a"})
	n.Send("a", "b", 1, 1)
	n.Run(100 * ms)
	n.Heal()
	n.Run(200 * ms)
	a.want(t, "0s b up=true", "11ms b up=false", "11ms lost b:1", "110ms b up=true")
	b.want(t, "0s a up=true", "11ms a up=false", "110ms a up=true")
}

func TestKillAndRestart(t *testing.T) {
	n, a, b := two(Config{Latency: 10 * ms, Detect: 50 * ms})
	first := n.nodes["b"]
	n.Connect("a", "b")
	n.Run(20 * ms)
	first.After(100*ms, func() { t.Error("a dead node's timer fired") })
	n.Send("a", "b", "underway", 1)
	n.Kill("b")
	n.Run(200 * ms)
	second := n.Node("b", b.handler(n))
	if first.Alive() || !second.Alive() || first.Boot() == second.Boot() || second.ID() != "b" {
		t.Fatal("restart keeps the old run")
	}
	first.Send("a", "ghost", 1)
	second.Send("a", "hello", 1)
	n.Run(time.Second)
	a.want(t, "10ms b up=true", "70ms b up=false", "80ms lost b:underway", "210ms b:hello", "250ms b up=true")
	b.want(t, "10ms a up=true", "210ms a up=true")
}

func TestFreezeAndThaw(t *testing.T) {
	n, a, b := two(Config{Latency: 10 * ms, Detect: 50 * ms})
	n.Connect("a", "b")
	n.Run(20 * ms)
	n.Freeze("b")
	n.nodes["b"].After(ms, func() { *b = append(*b, fmt.Sprint(n.Now(), " timer")) })
	n.Send("a", "b", 1, 1)
	n.Run(500 * ms)
	n.Thaw("b")
	n.Run(time.Second)
	b.want(t, "10ms a up=true", "500ms timer", "500ms a:1")
	a.want(t, "10ms b up=true", "70ms b up=false", "550ms b up=true")
}

// A busy network of many nodes with faults gives the same run twice, to the last event.
func TestSameSeedSameRun(t *testing.T) {
	run := func(seed uint64) string {
		n := New(seed, Config{Latency: 20 * ms, Jitter: 30 * ms, BytesPerSec: 1e6, Loss: 0.05, Detect: 200 * ms, Trace: 1 << 16})
		const nodes = 20
		id := func(i int) record.PeerID { return record.PeerID(fmt.Sprint("n", i)) }
		for i := range nodes {
			n.Node(id(i), Handler{Receive: func(from record.PeerID, msg any) {
				if k := msg.(int); k > 0 {
					n.Send(id(i), id(n.Rand().IntN(nodes)), k-1, 1<<n.Rand().IntN(18))
				}
			}})
		}
		for i := range nodes {
			n.Send(id(i), id((i+1)%nodes), 200, 100)
		}
		for range 20 {
			n.After(time.Duration(n.Rand().IntN(5000))*ms, func() { n.Freeze(id(n.Rand().IntN(nodes))) })
			n.After(time.Duration(n.Rand().IntN(5000))*ms, func() { n.Thaw(id(n.Rand().IntN(nodes))) })
			n.After(time.Duration(n.Rand().IntN(5000))*ms, func() { n.Cut(id(n.Rand().IntN(nodes)), id(n.Rand().IntN(nodes))) })
			n.After(time.Duration(n.Rand().IntN(5000))*ms, func() { n.Node(id(n.Rand().IntN(nodes)), Handler{}) })
		}
		n.After(2*time.Second, func() { n.Partition([]record.PeerID{id(1), id(2)}, []record.PeerID{id(3)}) })
		n.After(3*time.Second, n.Heal)
		n.Run(20 * time.Second)
		var b bytes.Buffer
		n.Dump(&b)
		return b.String()
	}
	one, two, other := run(7), run(7), run(8)
	if one != two {
		t.Fatal("the same seed gave two runs")
	}
	if one == other || strings.Count(one, "\n") < 500 {
		t.Fatalf("trace of %d lines does not depend on the seed", strings.Count(one, "\n"))
	}
}

func TestDumpKeepsTheLast(t *testing.T) {
	n := New(1, Config{Trace: 3})
	for i := range 10 {
		n.Logf("line %d", i)
	}
	var b bytes.Buffer
	n.Dump(&b)
	if got := strings.Fields(b.String()); strings.Join(got, " ") != "0s line 7 0s line 8 0s line 9" {
		t.Fatalf("%q", got)
	}
}

// Thousands of nodes are cheap: each gossips to eight others.
func BenchmarkNodes(b *testing.B) {
	for _, nodes := range []int{100, 10_000} {
		b.Run(fmt.Sprint(nodes), func(b *testing.B) {
			ids := make([]record.PeerID, nodes)
			for i := range ids {
				ids[i] = record.PeerID(fmt.Sprint("node", i))
			}
			n := New(1, Config{Latency: 20 * ms, Jitter: 10 * ms})
			events := 0
			for i, id := range ids {
				n.Node(id, Handler{Receive: func(_ record.PeerID, msg any) {
					events++
					n.Send(id, ids[(i*7+msg.(int))%nodes], (msg.(int)+1)%8, 100)
				}})
			}
			for i, id := range ids {
				n.Send(id, ids[(i+1)%nodes], 0, 100)
			}
			for b.Loop() {
				n.Step()
			}
			b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
