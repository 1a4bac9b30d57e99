package worker

import (
	"fmt"
	"os"
	"testing"
)

// files trains all weights of a small model of which no member keeps any in memory.
var files = append(full[:3:3], "parallel: {zero: 3, offload: disk, mirror_rounds: 1}", "checkpoint: {every_steps: 4}")

// TestAway: members whose weights lie in files train as one process does, with each of adapters and codecs.
func TestAway(t *testing.T) {
	numbersOnly(t)
	for name, more := range map[string][]string{
		"fp32": files[:4:4],
		"int8": append(files[:4:4], "wire: {gradients: int8}"),
		"lora": {"parallel: {zero: 3}"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrew(t, 3, 3, 12, more...)
			c.start(0, 1, 2)
			off := c.finish(0, 1, 2)
			t.Logf("losses are off by %.2g; %v", off, c.moments(0))
			if limit := map[string]float64{"int8": 1e-2}[name]; off > max(limit, 1e-4) || len(c.moments(0)) > 0 {
				t.Errorf("losses are off by %.2g; %v", off, c.moments(0))
			}
			for _, p := range c.all {
				if p.states[12] == "" || p.states[12] != c.all[0].states[12] {
					t.Errorf("states differ: %q and %q", p.states[12], c.all[0].states[12])
				}
			}
		})
	}
}

// TestAwayComesAndGoes: one member joins late, an owner dies, and all stop and come back: the curve does not show it.
func TestAwayComesAndGoes(t *testing.T) {
	numbersOnly(t)
	c := newCrew(t, 4, 3, 60, files...)
	c.start(0, 1, 2)
	<-c.all[0].tenth
	c.start(3)
	<-c.all[3].tenth
	c.all[1].host.Close()
	off := c.finish(0, 2, 3)
	t.Logf("losses are off by %.2g; %v", off, c.moments(0))
	if off > 1e-4 || len(c.moments(0)) > 0 {
		t.Errorf("losses are off by %.2g; %v", off, c.moments(0))
	}
}

// TestAwayResumes: all members stop and come back with what they settled.
func TestAwayResumes(t *testing.T) {
	if os.Getenv("SHOAL_FULL") == "" {
		t.Skip("SHOAL_FULL is not set: TestOwnersResume takes the same way with zero: 2")
	}
	c := newCrew(t, 3, 3, 60, files...)
	c.start(0, 1, 2)
	<-c.all[0].tenth
	for i := range c.all {
		c.stop[i]()
	}
	c.running.Wait()
	for i, p := range c.all {
		p.stop()
		c.all[i] = openPeer(t, p.dir, p.key)
	}
	connect(t, c.all)
	c.start(0, 1, 2)
	off := c.finish(0, 1, 2)
	t.Logf("losses are off by %.2g; %v", off, c.moments(0))
	if off > 1e-4 || len(c.moments(0)) > 0 {
		t.Errorf("losses are off by %.2g; %v", off, c.moments(0))
	}
}

// TestAwayReference is the reference run of all weights of a real model, of which nobody keeps any in memory, with two, three and five
// members, and what they send.
func TestAwayReference(t *testing.T) {
	if os.Getenv("SHOAL_FULL") == "" {
		t.Skip("SHOAL_FULL is not set: TestAway does the same with a smaller model")
	}
	for _, n := range []int{2, 3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c := gather(t, n)
			c.storiesTask(n, "{zero: 3, offload: disk}")
			var ids []int
			for i := range n {
				c.start(i)
				ids = append(ids, i)
			}
			off := c.finish(ids...)
			t.Logf("losses are off by %.2g; %v", off, c.moments(0))
			if off > 1e-4 || len(c.moments(0)) > 0 {
				t.Errorf("losses are off by %.2g; %v", off, c.moments(0))
			}
			c.checkSent()
		})
	}
}
