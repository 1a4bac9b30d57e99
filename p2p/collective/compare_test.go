package collective

import (
	"flag"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
)

var (
	turns  = flag.Int("turns", 5, "BenchmarkCompare: how often the contestants run in turn")
	python = flag.String("python", "/usr/bin/python3", "BenchmarkCompare: a Python that has torch, for gloo")
	length = flag.Int("elements", 25_000_000, "BenchmarkCompare: float32 of a member's vector")
)

// took is what one round of a contestant took: time, and processor time of all its peers.
type took struct{ wall, cpu time.Duration }

// contestant is one way to add up the same vectors.
type contestant struct {
	name string
	run  func() (took, error)
	all  []took
}

// BenchmarkCompare runs rounds of 100 MB among four peers on loopback in turn: shoal in fp32 and int8, the bytes of fp32 in
// the same pattern over crypto/tls, and then gloo, which does not encrypt, where -python has torch. It prints medians and
// ratios; run it with -benchtime 1x.
func BenchmarkCompare(b *testing.B) {
	const peers = 4
	elements := *length
	var all []*contestant
	vs := vectors(peers, elements)
	for _, codec := range []exact.Codec{exact.FP32, exact.Int8} {
		all = append(all, &contestant{name: codec.String(), run: shoalRound(b, codec, vs)})
	}
	mesh := newTLSMesh(b, peers)
	all = append(all, &contestant{name: "tls", run: timed(b, func() {
		mesh.exchange(4*elements/peers, 0)
		mesh.exchange(4*elements/peers, 1)
	})})
	for b.Loop() {
		for turn := range 1 + *turns {
			for _, c := range all {
				t, err := c.run()
				if err != nil {
					b.Logf("%s: %v", c.name, err)
				} else if turn > 0 { // the first opens connections and finds memory
					c.all = append(c.all, t)
				}
			}
		}
	}
	gloo := &contestant{name: "gloo"} // not in turn: to start its processes takes longer than all the rest
	if t, err := glooRounds(peers, elements, *turns); err != nil {
		b.Log("gloo is left out:", err)
	} else {
		gloo.all = append(gloo.all, t)
	}
	all = append(all, gloo)
	b.Log("\n" + table(all, 4*elements))
}

// vectors are numbers between -1 and 1.
func vectors(peers, elements int) [][]float32 {
	vs := make([][]float32, peers)
	for i := range vs {
		vs[i] = make([]float32, elements)
		for k := range vs[i] {
			vs[i][k] = float32((k*7919+i*104729)%20001-10000) / 10000
		}
	}
	return vs
}

func shoalRound(b *testing.B, codec exact.Codec, vs [][]float32) func() (took, error) {
	xfers, ids := newHosts(b, len(vs))
	c := newCluster(b, xfers, ids, even(len(vs[0]))...)
	c.codec = codec
	b.Cleanup(c.close)
	c.joinAll()
	round := uint64(0)
	return timed(b, func() {
		for i, d := range c.round(round, vs) {
			c.members[i].g.Recycle(d.V)
		}
		round++
	})
}

func timed(b *testing.B, run func()) func() (took, error) {
	return func() (took, error) {
		began, cpu := time.Now(), cpuTime(b)
		run()
		return took{time.Since(began), cpuTime(b) - cpu}, nil
	}
}

// glooRounds runs one process per peer, and gives the mean of some rounds; starting them does not count.
func glooRounds(peers, elements, rounds int) (took, error) {
	cmd := exec.Command(*python, "../../docs/benchmarks/peers/gloo.py", fmt.Sprint(peers), fmt.Sprint(elements), fmt.Sprint(rounds))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return took{}, fmt.Errorf("%w: %s", err, out[max(0, len(out)-200):])
	}
	var wall, cpu float64
	if _, err := fmt.Sscan(string(out), &wall, &cpu); err != nil {
		return took{}, err
	}
	return took{time.Duration(wall * 1e9), time.Duration(cpu * 1e9)}, nil
}

// table prints medians, and the ratios of each contestant's median to that of tls and of gloo: above 1 is faster than it.
func table(all []*contestant, size int) string {
	median := map[string]took{}
	for _, c := range all {
		if len(c.all) > 0 {
			median[c.name] = medianOf(c.all)
		}
	}
	var s strings.Builder
	fmt.Fprintf(&s, "%-6s %9s %9s %9s %9s %9s %9s\n", "", "ms", "cpu s/GB", "/ tls", "/ gloo", "cpu /tls", "cpu /gloo")
	for _, c := range all {
		m, ok := median[c.name]
		if !ok {
			continue
		}
		fmt.Fprintf(&s, "%-6s %9.0f %9.1f", c.name, m.wall.Seconds()*1e3, m.cpu.Seconds()/float64(size)*1e9)
		for _, pick := range []func(took) time.Duration{func(t took) time.Duration { return t.wall }, func(t took) time.Duration { return t.cpu }} {
			for _, other := range []string{"tls", "gloo"} {
				if o, ok := median[other]; ok {
					fmt.Fprintf(&s, " %9.2f", pick(o).Seconds()/pick(m).Seconds())
				} else {
					fmt.Fprintf(&s, " %9s", "-")
				}
			}
		}
		s.WriteByte('\n')
	}
	return s.String()
}

func medianOf(all []took) took {
	mid := func(pick func(took) time.Duration) time.Duration {
		var ds []time.Duration
		for _, t := range all {
			ds = append(ds, pick(t))
		}
		slices.Sort(ds)
		return ds[len(ds)/2]
	}
	return took{mid(func(t took) time.Duration { return t.wall }), mid(func(t took) time.Duration { return t.cpu })}
}
