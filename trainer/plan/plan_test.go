package plan

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// model is one of blocks alike.
func model(blocks int, megabytes int64) Job {
	j := Job{Hidden: 1024, Vocab: 32000, Tokens: 512, Micros: 16, PerLearned: 16, State: 8, OnHost: 12, Stream: 2, Gradient: 4}
	j.Units = append(j.Units, Unit{Frozen: 2 * megabytes << 20, Keep: 4096, Work: 4096})
	for range blocks {
		j.Units = append(j.Units, Unit{Frozen: megabytes << 20, Learns: 100_000, Forward: float64(megabytes << 20), Back: float64(megabytes << 20), Keep: 40 << 10, Work: 40 << 10})
	}
	j.Units = append(j.Units, Unit{Frozen: 2 * megabytes << 20, Forward: 1e8, Back: 1e8, Keep: 4096, Work: 8192})
	return j
}

// alike are n nodes of some megabytes.
func alike(n int, megabytes int64) (nodes []Node) {
	for i := range n {
		nodes = append(nodes, Node{Name: fmt.Sprintf("n%d", i), Memory: megabytes << 20, Flops: 1e11, Rate: 12.5e6, Delay: 20 * time.Millisecond})
	}
	return nodes
}

func mustMake(t *testing.T, j Job, nodes []Node, w Want) *Plan {
	t.Helper()
	p, err := Make(j, nodes, w)
	if err != nil {
		t.Fatal(err)
	}
	check := 0
	for _, s := range p.Stages {
		if s.Lo != check {
			t.Errorf("stages do not follow each other: %+v", p.Stages)
		}
		check = s.Hi
		micros := 0
		for _, r := range s.Replicas {
			micros += r.Micros
			if r.Memory < s.Memory {
				t.Errorf("%s has %d, needs %d", r.Node, r.Memory, s.Memory)
			}
		}
		if micros != j.Micros {
			t.Errorf("stage of %d micro-batches, the step has %d", micros, j.Micros)
		}
	}
	if check != len(j.Units) {
		t.Errorf("stages end at unit %d", check)
	}
	return p
}

// TestSmallModelIsNotCut: where the model fits everywhere, and gradients are small, every node holds all of it.
func TestSmallModelIsNotCut(t *testing.T) {
	p := mustMake(t, model(8, 10), alike(4, 4000), Want{})
	if len(p.Stages) != 1 || len(p.Stages[0].Replicas) != 4 {
		t.Errorf("plan %+v", p)
	}
}

// TestLargeModelIsCut: a model that no node holds takes as many stages as it must, and spare nodes become replicas.
func TestLargeModelIsCut(t *testing.T) {
	j := model(16, 100) // 2 GB of weights
	p := mustMake(t, j, alike(4, 1200), Want{})
	if len(p.Stages) < 2 || len(p.Stages) > 4 {
		t.Errorf("plan %+v", p)
	}
	p = mustMake(t, j, alike(8, 1300), Want{})
	seats := 0
	for _, s := range p.Stages {
		seats += len(s.Replicas)
	}
	if seats != 8 {
		t.Errorf("%d of 8 nodes have something to do: %+v", seats, p)
	}
}

// TestSpeedDecidesCuts: a node twice as fast holds about twice as much.
func TestSpeedDecidesCuts(t *testing.T) {
	nodes := alike(2, 4000)
	nodes[1].Flops *= 2
	p := mustMake(t, model(30, 50), nodes, Want{Stages: 2})
	for _, s := range p.Stages {
		if s.Replicas[0].Node == "n1" && (s.Hi-s.Lo < 19 || s.Hi-s.Lo > 24) {
			t.Errorf("the fast node has %d of 32 units", s.Hi-s.Lo)
		}
	}
}

// TestTooSmallNodesAreLeftOut, and named.
func TestTooSmallNodesAreLeftOut(t *testing.T) {
	nodes := append(alike(3, 1500), Node{Name: "toaster", Memory: 64 << 20, Flops: 1e8, Rate: 1e6})
	p := mustMake(t, model(16, 100), nodes, Want{})
	if len(p.Unused) != 1 || p.Unused[0] != "toaster" {
		t.Errorf("unused %v", p.Unused)
	}
}

// TestRefusals name the reason and what to do.
func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name  string
		j     Job
		nodes []Node
		w     Want
		want  []string
	}{
		{"nobody", model(2, 1), nil, Want{}, []string{"there are none"}},
		{"unit too large", model(2, 2000), alike(4, 1000), Want{}, []string{"alone needs", "has 1049 MB", "may help"}},
		{"together too small", model(40, 100), alike(3, 800), Want{}, []string{"no cut into any number of stages", "together"}},
		{"stages asked for", model(16, 100), alike(4, 1200), Want{Stages: 1}, []string{"1 stages", "needs"}},
		{"more stages than units", model(2, 1), alike(9, 1000), Want{Stages: 7}, []string{"parallel.pipeline to 4"}},
		{"more stages than nodes", model(9, 1), alike(2, 1000), Want{Stages: 3}, []string{"more than the 2 nodes"}},
		{"tensor over a WAN", model(9, 1), alike(2, 1000), Want{Tensor: 2}, []string{"takes a LAN", "set parallel.tensor to 1"}},
		{"node without numbers", model(9, 1), []Node{{Name: "x"}}, Want{}, []string{`"x" does not say`}},
	} {
		_, err := Make(tc.j, tc.nodes, tc.w)
		if !errors.Is(err, ErrInfeasible) {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		for _, w := range tc.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v does not say %q", tc.name, err, w)
			}
		}
	}
}

// TestMethodsSaveMemory: what they are for.
func TestMethodsSaveMemory(t *testing.T) {
	j := model(16, 100)
	for i := range j.Units {
		j.Units[i].Learns, j.Units[i].Frozen = j.Units[i].Frozen/2, 0
	}
	nodes := alike(4, 64000)
	for i := range nodes {
		nodes[i].Rate, nodes[i].Delay = 1e9, 0
	}
	plain := mustMake(t, j, nodes, Want{Stages: 1}).Stages[0].Memory
	last := plain
	for _, w := range []Want{{Stages: 1, Zero: 2}, {Stages: 1, Zero: 3}} {
		m := mustMake(t, j, nodes, w).Stages[0].Memory
		if m >= last {
			t.Errorf("%+v needs %d, less of it %d", w, m, last)
		}
		last = m
	}
	if m := mustMake(t, j, nodes, Want{Stages: 1, Offload: "cpu"}).Stages[0].Memory; m >= plain {
		t.Errorf("offload needs %d of %d", m, plain)
	}
	if p := mustMake(t, j, nodes, Want{Stages: 1, Tensor: 2}); len(p.Stages[0].Replicas) != 2 || p.Stages[0].Memory >= plain || len(p.Unused) != 0 {
		t.Errorf("tensor parallelism: %+v", p)
	}
}
