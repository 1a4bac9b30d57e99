package stage

import (
	"slices"
	"testing"
)

// TestOneFOneB runs all stages of a pipeline together, one task a tick, and checks that nobody waits for ever, that every
// micro-batch passes once each way, and that no more of them are alive than promised.
func TestOneFOneB(t *testing.T) {
	for stages := 1; stages <= 5; stages++ {
		for micros := 1; micros <= 9; micros++ {
			run(t, stages, micros)
		}
	}
}

func run(t *testing.T, stages, micros int) {
	t.Helper()
	orders, done := make([][]Task, stages), make([]map[Task]bool, stages)
	alive, most := make([]int, stages), make([]int, stages)
	for s := range stages {
		orders[s], done[s] = OneFOneB(s, stages, micros), map[Task]bool{}
	}
	ready := func(s int, k Task) bool {
		if !k.Back {
			return s == 0 || done[s-1][k]
		}
		return done[s][Task{Micro: k.Micro}] && (s == stages-1 || done[s+1][k])
	}
	for left := 2 * stages * micros; left > 0; {
		var now []int
		for s := range stages {
			if len(orders[s]) > 0 && ready(s, orders[s][0]) {
				now = append(now, s)
			}
		}
		if len(now) == 0 {
			t.Fatalf("%d stages, %d micro-batches: nobody can go on, left %v", stages, micros, orders)
		}
		for _, s := range now {
			k := orders[s][0]
			if done[s][k] {
				t.Fatalf("stage %d does %v twice", s, k)
			}
			done[s][k], orders[s] = true, orders[s][1:]
			if left--; k.Back {
				alive[s]--
			} else {
				alive[s]++
			}
			most[s] = max(most[s], alive[s])
		}
	}
	for s := range stages {
		if most[s] > stages-s {
			t.Errorf("%d stages, %d micro-batches: %d alive at stage %d", stages, micros, most[s], s)
		}
	}
}

func TestOneFOneBOrder(t *testing.T) {
	got := OneFOneB(0, 3, 4)
	want := []Task{{0, false}, {1, false}, {2, false}, {0, true}, {3, false}, {1, true}, {2, true}, {3, true}}
	if !slices.Equal(got, want) {
		t.Fatalf("order %v, want %v", got, want)
	}
}
