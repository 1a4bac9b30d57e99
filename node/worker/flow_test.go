package worker

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// newPipeline is a crew for a job in stages: a model of four blocks, activations in fp32 unless more says otherwise.
func newPipeline(t *testing.T, n, members, steps int, more ...string) *crew {
	c := gather(t, n)
	dir := t.TempDir()
	must(t, tiny.Write(dir, tiny.Shape{Layers: 4}, 1))
	c.task = signTask(t, c.all[0], dir, tinyRows(t, c.all[0].deps.Store, 40), 40, tinySpec(members, steps, more))
	for _, r := range alone(t, c.all[0], c.task) {
		c.want = append(c.want, r.Loss)
	}
	return c
}

const (
	inThree = "parallel: {pipeline: 3}"
	exactly = "wire: {activations: fp32}"
)

// TestPipeline: nodes that each compute a part of a model learn what one process learns.
func TestPipeline(t *testing.T) {
	for _, tc := range []struct {
		name  string
		n     int
		limit float64
		more  []string
	}{
		{"LoRA in 3 stages", 3, 1e-4, []string{inThree, exactly}},
		{"all weights in 3 stages", 3, 1e-4, append(slices.Clone(full[:3]), inThree, exactly)},
		{"as many stages as it takes", 2, 1e-4, []string{"parallel: {pipeline: auto}", exactly}},
		{"2 stages, int8 on the wire", 2, 5e-2, []string{"parallel: {pipeline: 2}", "wire: {activations: int8, gradients: bf16}"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newPipeline(t, tc.n, tc.n, 8, tc.more...)
			ids := upTo(tc.n)
			c.start(ids...)
			off := c.finish(ids...)
			t.Logf("losses are off by %.2g", off)
			if off > tc.limit {
				t.Errorf("losses are off by %.2g, want %.0g", off, tc.limit)
			}
			c.counted(t, 0)
		})
	}
}

func upTo(n int) (ids []int) {
	for i := range n {
		ids = append(ids, i)
	}
	return ids
}

// counted checks that in each stage of each round every position counted once.
func (c *crew) counted(t *testing.T, at int) {
	t.Helper()
	for _, r := range c.all[at].rounds {
		times := map[uint64]int{}
		for _, m := range r.Members {
			for _, p := range m.Positions {
				for i := p[0]; i < p[1]; i++ {
					times[i]++
				}
			}
		}
		stages := -1
		for i, n := range times {
			if stages < 0 {
				stages = n
			}
			if n != stages {
				t.Errorf("round %d: position %d counted in %d stages, others in %d", r.Round, i, n, stages)
			}
		}
		if len(times) != 4 {
			t.Errorf("round %d: %d positions counted, want 4", r.Round, len(times))
		}
	}
}

// TestPipelineWaits: where nobody is left to hold a stage, the job waits, says for what, and goes on when a node joins.
func TestPipelineWaits(t *testing.T) {
	c := newPipeline(t, 4, 3, 10, inThree, exactly)
	c.all[2].mark = 4
	c.start(0, 1, 2)
	<-c.all[2].tenth
	c.all[2].host.Close()
	c.stop[2]()
	said := c.all[0].heard(t, "has nobody")
	t.Log(said)
	c.start(3)
	off := c.finish(0, 1, 3)
	t.Logf("losses are off by %.2g", off)
	if off > 1e-3 {
		t.Errorf("losses are off by %.2g", off)
	}
	c.counted(t, 0)
}

// heard waits until people are told something with a word in it.
func (p *peer) heard(t *testing.T, word string) string {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		p.mu.Lock()
		i := slices.IndexFunc(p.notes, func(s string) bool { return strings.Contains(s, word) })
		said, more := "", p.noted
		if i >= 0 {
			said = p.notes[i]
		}
		p.mu.Unlock()
		if i >= 0 {
			return said
		}
		select {
		case <-more:
		case <-limit:
			t.Fatalf("nobody said that a stage %s", word)
		}
	}
}

// TestPipelineLosesANode: of three stages with two replicas each one is gone in mid-round. Its micro-batches are computed
// by the other replica, and the curve stays.
func TestPipelineLosesANode(t *testing.T) {
	c := newPipeline(t, 6, 6, 10, inThree, exactly)
	c.all[5].mark = 4
	c.start(upTo(6)...)
	<-c.all[5].tenth
	c.all[5].host.Close()
	c.stop[5]()
	off := c.finish(upTo(5)...)
	t.Logf("losses are off by %.2g", off)
	if off > 1e-3 || math.IsNaN(off) {
		t.Errorf("losses are off by %.2g", off)
	}
	c.counted(t, 0)
}
