package pipe

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// world is a pipeline in virtual time: devices whose passes take time, lines that take time, and losses.
type world struct {
	t      *testing.T
	plan   Plan
	now    time.Duration
	events events
	seq    int
	nodes  map[record.PeerID]*node
	book   *Book
	rng    *rand.Rand
	delay  func() time.Duration
}

// node is a member with its device.
type node struct {
	w    *world
	id   record.PeerID
	at   int // stage
	m    *Machine
	gone bool
	most int // alive at a time
	pace time.Duration
}

type event struct {
	at  time.Duration
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	x := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return x
}

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.events, event{w.now + d, w.seq, do})
}

// newWorld makes a pipeline with lines of no known delay; paces are per stage and replica.
func newWorld(t *testing.T, seed uint64, micros int, delay func(*rand.Rand) time.Duration, paces ...[]time.Duration) *world {
	return newSlowWorld(t, seed, micros, 0, delay, paces...)
}

// newSlowWorld is newWorld with lines that are known to take so long.
func newSlowWorld(t *testing.T, seed uint64, micros int, known time.Duration, delay func(*rand.Rand) time.Duration, paces ...[]time.Duration) *world {
	w := &world{t: t, nodes: map[record.PeerID]*node{}, rng: rand.New(rand.NewPCG(seed, 1))}
	w.delay = func() time.Duration { return delay(w.rng) }
	for s, replicas := range paces {
		var members []Member
		for r, pace := range replicas {
			members = append(members, Member{record.PeerID(fmt.Sprintf("s%dr%d", s, r)), pace})
		}
		w.plan.Stages = append(w.plan.Stages, members)
	}
	w.plan.Delay = known
	w.plan.Homes = Share(w.plan.Stages[0], micros)
	w.book = NewBook(w.plan)
	for s, members := range w.plan.Stages {
		for _, r := range members {
			m, err := New(w.plan, r.ID)
			if err != nil {
				t.Fatal(err)
			}
			w.nodes[r.ID] = &node{w: w, id: r.ID, at: s, m: m, pace: r.Pace}
		}
	}
	for _, members := range w.plan.Stages {
		for _, r := range members {
			w.nodes[r.ID].turn()
		}
	}
	return w
}

// run lets events happen until the round is complete.
func (w *world) run() time.Duration {
	for !w.book.Complete() {
		if len(w.events) == 0 {
			w.t.Fatalf("nothing happens any more after %v: %s", w.now, w.state())
		}
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
	}
	return w.now
}

func (w *world) state() (s string) {
	for stage, done := range w.book.done {
		s += fmt.Sprintf("stage %d has %d of %d; ", stage, len(done), len(w.plan.Homes))
	}
	return s
}

// value is what a stage gives for a micro-batch.
func value(stage int, micro uint32, back bool) float32 {
	v := float32(micro)*16 + float32(stage)
	if back {
		v += 0.5
	}
	return v
}

// turn performs effects and begins the next task. A third of a micro-batch's time is the forward pass.
func (n *node) turn() {
	for _, e := range n.m.Effects() {
		switch {
		case e.Finished != nil:
			if !n.w.book.Finished(n.id, e.Finished.Micro) && !n.w.book.lost[n.id] {
				n.w.t.Fatalf("%s finishes micro-batch %d, which counts already", n.id, e.Finished.Micro)
			}
		case e.Send != nil:
			n.w.after(n.w.delay(), func() { n.w.nodes[e.Send.To].get(n.id, e.Send.Frame) })
		}
	}
	task, ok := n.m.Task()
	if !ok {
		return
	}
	n.most = max(n.most, n.m.Live())
	n.check(task)
	took := n.pace / 3
	if task.Back {
		took = n.pace - took
	}
	n.w.after(took, func() {
		if n.gone {
			return
		}
		n.m.Computed([]float32{value(n.at, task.Micro, task.Back)}, took)
		n.turn()
	})
}

// check holds a task's input against what it has to be.
func (n *node) check(t Task) {
	last := n.at == len(n.w.plan.Stages)-1
	switch {
	case !t.Back && n.at > 0 && t.Data[0] != value(n.at-1, t.Micro, false),
		t.Back && !last && t.Data[0] != value(n.at+1, t.Micro, true):
		n.w.t.Fatalf("%s gets %v for %+v", n.id, t.Data, t)
	}
}

func (n *node) get(from record.PeerID, f Frame) {
	if n.gone {
		return
	}
	if err := n.m.Receive(from, f); err != nil && err != ErrStale {
		n.w.t.Fatalf("%s refuses a frame of %s: %v", n.id, from, err)
	}
	n.turn()
}

// lose declares a member lost, to each of the others at a moment of its own. It may really be gone, or go on.
func (w *world) lose(id record.PeerID, really bool) {
	w.nodes[id].gone = really
	w.book.Lost(id)
	for _, members := range w.plan.Stages {
		for _, r := range members {
			if r.ID == id {
				continue
			}
			w.after(time.Duration(w.rng.Int64N(int64(60*time.Millisecond))), func() {
				if n := w.nodes[r.ID]; !n.gone {
					n.m.Lost(id)
					n.turn()
				}
			})
		}
	}
}

func same(n int, pace time.Duration) []time.Duration {
	p := make([]time.Duration, n)
	for i := range p {
		p[i] = pace
	}
	return p
}

const pass = 30 * time.Millisecond // of a micro-batch in the tests, both ways

func instant(*rand.Rand) time.Duration { return 0 }

func uneven(r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(20 * time.Millisecond))) }

// TestEfficiency holds the time of a round against what 1F1B takes without any waiting: m micro-batches and the p-1 that
// fill and drain the pipeline.
func TestEfficiency(t *testing.T) {
	const stages, micros = 4, 16
	w := newWorld(t, 1, micros, instant, same(1, pass), same(1, pass), same(1, pass), same(1, pass))
	took := w.run()
	ideal := (micros + stages - 1) * pass
	t.Logf("efficiency %.3f of m/(m+p-1)", float64(ideal)/float64(took))
	if float64(ideal)/float64(took) < 0.95 {
		t.Errorf("a round takes %v, the ideal is %v", took, ideal)
	}
	for id, n := range w.nodes {
		if n.most > stages-n.at {
			t.Errorf("%s had %d alive, may have %d", id, n.most, stages-n.at)
		}
	}
}

// TestEfficiencyOverSlowLines: lines that take as long as a pass cost their way to and fro once, not for each micro-batch.
func TestEfficiencyOverSlowLines(t *testing.T) {
	const stages, micros = 4, 32
	w := newSlowWorld(t, 1, micros, pass, func(*rand.Rand) time.Duration { return pass }, same(1, pass), same(1, pass), same(1, pass), same(1, pass))
	took := w.run()
	ideal := (micros+stages-1)*pass + 2*(stages-1)*pass
	t.Logf("efficiency %.3f", float64(ideal)/float64(took))
	if float64(ideal)/float64(took) < 0.95 {
		t.Errorf("a round takes %v, the ideal is %v", took, ideal)
	}
}

// TestSlowReplica: one of a stage's replicas is four times slower than the others, in each stage in turn. The ideal is the
// slowest stage's summed speed, and the way of one micro-batch through the rest.
func TestSlowReplica(t *testing.T) {
	const stages, micros = 3, 64
	for slow := range stages {
		var paces [][]time.Duration
		for s := range stages {
			p := same(3, pass)
			if s == slow {
				p[0] *= 4
			}
			paces = append(paces, p)
		}
		took := newWorld(t, 1, micros, instant, paces...).run()
		ideal := time.Duration(micros/(2.25/pass.Seconds())*float64(time.Second)) + (stages-1)*pass
		t.Logf("stage %d: %.3f of the ideal", slow, float64(took)/float64(ideal))
		if float64(took) > 1.15*float64(ideal) {
			t.Errorf("stage %d has a slow replica: a round takes %v, ideal %v", slow, took, ideal)
		}
	}
}

// TestUnevenStages: stages with different numbers of replicas, random delays of the lines.
func TestUnevenStages(t *testing.T) {
	for seed := range uint64(50) {
		for _, shape := range [][]int{{1, 2, 3}, {3, 1, 2}, {2, 3, 1}, {1, 1, 1, 1, 1}, {4, 4}, {1}, {3}} {
			var paces [][]time.Duration
			for _, n := range shape {
				paces = append(paces, same(n, pass))
			}
			w := newWorld(t, seed, 11, uneven, paces...)
			w.run()
			for id, n := range w.nodes {
				if limit := Lives(w.plan.Stages, w.plan.Delay)[n.at]; n.most > limit {
					t.Errorf("%s had %d alive, may have %d", id, n.most, limit)
				}
			}
		}
	}
}

// TestLosses loses members of a pipeline of three stages with two replicas each, at any moment, one or several, dead or
// believed to be. Every stage counts every micro-batch once.
func TestLosses(t *testing.T) {
	for seed := range uint64(400) {
		w := newWorld(t, seed, 12, uneven, same(2, pass), same(2, pass), same(2, pass))
		for s := range 3 {
			if w.rng.IntN(3) > 0 || s == int(seed%3) {
				id, really := w.plan.Stages[s][w.rng.IntN(2)].ID, w.rng.IntN(2) == 0
				w.after(time.Duration(w.rng.Int64N(int64(500*time.Millisecond))), func() { w.lose(id, really) })
			}
		}
		w.run()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestStuck: without the last replica of a stage nothing goes on, and the book says where.
func TestStuck(t *testing.T) {
	w := newWorld(t, 1, 4, instant, same(1, pass), same(1, pass))
	w.book.Lost("s1r0")
	if s, stuck := w.book.Stuck(); !stuck || s != 1 || w.book.Complete() {
		t.Errorf("stuck at %d: %v", s, stuck)
	}
}

// TestRefusals: frames that no correct peer sends change nothing.
func TestRefusals(t *testing.T) {
	w := newWorld(t, 1, 4, instant, same(1, pass), same(2, pass), same(1, pass))
	m := w.nodes["s1r0"].m
	for name, f := range map[string]struct {
		from record.PeerID
		f    Frame
	}{
		"other plan":      {"s0r0", Frame{Key: Key{Round: 9}, Kind: Forward}},
		"stranger":        {"who", Frame{Kind: Forward}},
		"wrong direction": {"s2r0", Frame{Kind: Forward, From: 2}},
		"own stage":       {"s1r1", Frame{Kind: Forward, From: 1}},
		"no such micro":   {"s0r0", Frame{Kind: Forward, Micro: 4}},
		"never here":      {"s2r0", Frame{Kind: Backward, From: 2}},
		"unknown kind":    {"s0r0", Frame{Kind: 9}},
	} {
		if m.Receive(f.from, f.f) == nil || len(m.Effects()) > 0 {
			t.Errorf("%s: taken", name)
		}
	}
}
