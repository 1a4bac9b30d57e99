package worker

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/node/task"
)

// full trains all weights of the model, some chunks.
var full = []string{"lora_target_linear: false", `adapter: ""`, "optimizer: {lr: 1e-3}", "parallel: {zero: 2}", "checkpoint: {every_steps: 20}"}

// crew is members of a job in which owners step.
type crew struct {
	t       *testing.T
	ctx     context.Context
	task    task.Task
	all     []*peer
	stop    []context.CancelFunc
	running sync.WaitGroup
	want    []float64 // losses of one process
}

// newCrew makes n connected peers of which members are waited for; none runs yet.
func newCrew(t *testing.T, n, members, steps int, more ...string) *crew {
	c := gather(t, n)
	c.task = tinyTask(t, c.all[0], members, steps, more...)
	for _, r := range alone(t, c.all[0], c.task) {
		c.want = append(c.want, r.Loss)
	}
	return c
}

// gather makes n connected peers without a job.
func gather(t *testing.T, n int) *crew {
	c := &crew{t: t}
	for range n {
		c.all = append(c.all, newPeer(t))
	}
	connect(t, c.all)
	var cancel context.CancelFunc
	c.ctx, cancel = context.WithTimeout(t.Context(), 3*time.Minute) // the race detector is slow
	t.Cleanup(cancel)
	return c
}

func (c *crew) start(ids ...int) {
	for _, i := range ids {
		ctx, cancel := context.WithCancel(c.ctx)
		for len(c.stop) <= i {
			c.stop = append(c.stop, nil)
		}
		c.stop[i] = cancel
		c.running.Go(func() { _ = c.all[i].run(ctx, c.task) }) // the end is told by an event
	}
}

// finish waits for the end and returns how far the losses of a member are from those of one process.
func (c *crew) finish(ids ...int) (off float64) {
	c.t.Helper()
	for _, i := range ids {
		select {
		case <-c.all[i].done:
		case <-c.ctx.Done():
			c.t.Fatalf("node %d did not finish: %d steps", i, len(c.all[i].steps))
		}
		p := c.all[i]
		if p.ended.State != "done" || len(p.steps) != len(c.want) {
			c.t.Fatalf("node %d ended %+v after %d steps, want %d", i, p.ended, len(p.steps), len(c.want))
		}
		for k, r := range p.steps {
			off = max(off, math.Abs(r.Loss-c.want[k]))
		}
	}
	return off
}

// moments lists what rounds said of optimizer state that was not exact.
func (c *crew) moments(i int) (said []string) {
	for _, r := range c.all[i].rounds {
		for _, m := range r.Members {
			if strings.Contains(m.Left, "moments") {
				said = append(said, fmt.Sprintf("round %d: %s", r.Round, m.Left))
			}
		}
	}
	return said
}

// TestOwnersStep: where owners step, members train as one process does, whatever the optimizer. A codec that rounds keeps
// them together, and near.
func TestOwnersStep(t *testing.T) {
	numbersOnly(t)
	for _, tc := range []struct {
		optimizer, codec string
		limit            float64
	}{{"adamw", "fp32", 1e-4}, {"lion", "fp32", 1e-4}, {"sophia", "fp32", 1e-4}, {"adamw8bit", "fp32", 1e-4},
		{"adamw", "bf16", 1e-2}, {"sgd", "int8", 1e-2}, {"sophia", "int8", 5e-2}} {
		t.Run(tc.optimizer+"/"+tc.codec, func(t *testing.T) {
			c := newCrew(t, 3, 3, 12, append(full[:2:2], "parallel: {zero: 2}", "optimizer: {name: "+tc.optimizer+", lr: 1e-3}",
				"wire: {gradients: "+tc.codec+"}")...)
			c.start(0, 1, 2)
			off := c.finish(0, 1, 2)
			t.Logf("losses are off by %.2g", off)
			if off > tc.limit || len(c.moments(0)) > 0 {
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

// TestOwnersComeAndGo: a member that joins takes chunks over and one that leaves hands them over, exactly.
func TestOwnersComeAndGo(t *testing.T) {
	c := newCrew(t, 4, 3, 80, full...)
	c.start(0, 1, 2)
	<-c.all[0].tenth
	c.start(3)
	<-c.all[3].tenth
	c.stop[1]()
	off := c.finish(0, 2, 3)
	t.Logf("losses are off by %.2g; %v", off, c.moments(0))
	if off > 1e-4 || len(c.moments(0)) > 0 {
		t.Errorf("losses are off by %.2g; %v", off, c.moments(0))
	}
}

// TestOwnerDies: with a mirror in every round the curve does not show the death of an owner; without, it does, and the
// round's report says why.
func TestOwnerDies(t *testing.T) {
	numbersOnly(t)
	for _, mirrors := range []int{1, 0} {
		t.Run(fmt.Sprint(mirrors), func(t *testing.T) {
			c := newCrew(t, 3, 3, 40, append(full[:3:3], fmt.Sprintf("parallel: {zero: 2, mirror_rounds: %d}", mirrors))...)
			c.start(0, 1, 2)
			<-c.all[1].tenth
			c.all[1].host.Close()
			off := c.finish(0, 2)
			t.Logf("losses are off by %.2g; %v", off, c.moments(0))
			if exact := off <= 1e-4 && len(c.moments(0)) == 0; exact != (mirrors == 1) {
				t.Errorf("losses are off by %.2g; %v", off, c.moments(0))
			}
		})
	}
}

// TestOwnersResume: all members stop and come back; they go on from the settled checkpoint, optimizer state included.
func TestOwnersResume(t *testing.T) {
	c := newCrew(t, 3, 3, 100, append(full[:4:4], "checkpoint: {every_steps: 4}")...)
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
