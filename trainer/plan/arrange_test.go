package plan

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func arrange(t *testing.T, j Job, nodes []Node, w Want, now []Seat) []Seat {
	t.Helper()
	seats, err := Arrange(j, nodes, w, now)
	if err != nil {
		t.Fatal(err)
	}
	next, names := 0, map[string]bool{}
	for _, s := range seats {
		if s.Lo != next || len(s.Nodes) == 0 {
			t.Fatalf("stages %+v", seats)
		}
		next = s.Hi
		for _, n := range s.Nodes {
			if names[n] {
				t.Fatalf("%s has two stages: %+v", n, seats)
			}
			names[n] = true
		}
	}
	if next != len(j.Units) {
		t.Fatalf("stages %+v of %d units", seats, len(j.Units))
	}
	return seats
}

// TestArrange follows a job through gains and losses: stages stay as they are while nodes suffice for them.
func TestArrange(t *testing.T) {
	j, nodes, w := model(16, 100), alike(6, 1300), Want{Stages: 3}
	first := arrange(t, j, nodes, w, nil)
	for seed := range uint64(5) { // whoever lists them, in whatever order
		shuffled := slices.Clone(nodes)
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(shuffled), func(a, b int) { shuffled[a], shuffled[b] = shuffled[b], shuffled[a] })
		if d := cmp.Diff(first, arrange(t, j, shuffled, w, nil)); d != "" {
			t.Fatal(d)
		}
	}
	if d := cmp.Diff(first, arrange(t, j, nodes, w, first)); d != "" {
		t.Error("nothing has happened: " + d)
	}
	cuts := func(seats []Seat) (c []int) {
		for _, s := range seats {
			c = append(c, s.Hi)
		}
		return c
	}
	without := func(names ...string) []Node {
		return slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return slices.Contains(names, n.Name) })
	}
	second := first[1].Nodes
	one := arrange(t, j, without(second[0]), w, first)
	if !slices.Equal(one[1].Nodes, second[1:]) || !slices.Equal(cuts(one), cuts(first)) {
		t.Errorf("one replica left: %+v after %+v", one, first)
	}
	none := arrange(t, j, without(second...), w, first)
	if len(none[1].Nodes) == 0 || !slices.Equal(cuts(none), cuts(first)) {
		t.Errorf("the last replica left: %+v after %+v", none, first)
	}
	back := arrange(t, j, nodes, w, one)
	if !slices.Contains(back[1].Nodes, second[0]) {
		t.Errorf("it is back, where it is needed most: %+v after %+v", back, one)
	}
	late := append(slices.Clone(nodes), Node{Name: "toaster", Memory: 100 << 20}, Node{Name: "z", Memory: 1300 << 20, Pace: time.Second})
	if more := arrange(t, j, late, w, first); len(more[0].Nodes)+len(more[1].Nodes)+len(more[2].Nodes) != 7 {
		t.Errorf("one of two joins: %+v", more)
	}
}

// TestArrangeWaits: where nobody can hold a stage the answer says which, and what it takes.
func TestArrangeWaits(t *testing.T) {
	j, nodes := model(16, 100), alike(3, 1300)
	now := arrange(t, j, nodes, Want{Stages: 3}, nil)
	lost := now[1].Nodes[0]
	left := slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return n.Name == lost })
	_, err := Arrange(j, left, Want{Stages: 3}, now)
	if !errors.Is(err, ErrInfeasible) || !strings.Contains(err.Error(), "stage 2 of 3 (block") || !strings.Contains(err.Error(), "has nobody: it takes a node with") {
		t.Errorf("%v", err)
	}
	if _, err := Arrange(j, nil, Want{}, now); !errors.Is(err, ErrInfeasible) {
		t.Errorf("without nodes: %v", err)
	}
	again := arrange(t, j, append(left, Node{Name: "new", Memory: 1300 << 20}), Want{Stages: 3}, now)
	if !slices.Equal(again[1].Nodes, []string{"new"}) {
		t.Errorf("%+v", again)
	}
}

// TestArrangeFollowsPace: a node whose measured pace is a quarter of the others' gets less.
func TestArrangeFollowsPace(t *testing.T) {
	j := model(30, 50)
	pace := func(name string, each time.Duration) Node { return Node{Name: name, Memory: 4 << 30, Pace: each} }
	seats := arrange(t, j, []Node{pace("a", time.Second), pace("b", 4*time.Second)}, Want{Stages: 2}, nil)
	for _, s := range seats {
		if slow := s.Nodes[0] == "b"; slow != (s.Hi-s.Lo < 12) {
			t.Errorf("%+v", seats)
		}
	}
	if c := j.Costs(); len(c) != 32 || c[1] != c[2] || j.Mean() <= 0 {
		t.Errorf("costs %v", c)
	}
}

// TestDiLoCoIsNotCut, and exchanges less.
func TestDiLoCoIsNotCut(t *testing.T) {
	j := model(8, 10)
	often := mustMake(t, j, alike(4, 4000), Want{Stages: 1})
	j.Every = 50
	p := mustMake(t, j, alike(4, 4000), Want{})
	if len(p.Stages) != 1 || p.Reduce > often.Reduce/20 || p.Stages[0].Memory <= often.Stages[0].Memory {
		t.Errorf("plan %+v beside %+v", p, often)
	}
	if _, err := Make(j, alike(4, 4000), Want{Stages: 2}); !errors.Is(err, ErrInfeasible) {
		t.Errorf("%v", err)
	}
}
