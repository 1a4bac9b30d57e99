package coord

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/shard"
)

// positions is a set of them, the slow way.
func positions(rs []shard.Range) map[uint64]bool {
	out := map[uint64]bool{}
	for _, r := range rs {
		for p := r.Lo; p < r.Hi; p++ {
			out[p] = true
		}
	}
	return out
}

// TestCursor: whatever counts and whatever is lost, in the end each position was handed out until it counted, and counted
// once.
func TestCursor(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		g := Genesis{Batch: 1 + rng.Uint64N(4), Inner: 1 + rng.Uint64N(3), Samples: 50 + rng.Uint64N(300)}
		m := &Machine{g: g}
		left, counted := cursor{}, map[uint64]bool{}
		for round := 0; !left.done(&g); round++ {
			if round > 2000 {
				t.Fatalf("seed %d: %+v is never done", seed, left)
			}
			pieces := handOut(m, left, 1+rng.IntN(9))
			if !within(pieceRanges(pieces), left.free(&g)) {
				t.Fatalf("seed %d: %v is not free in %+v", seed, pieces, left)
			}
			var came []Contribution
			for _, pc := range pieces {
				if rng.IntN(3) > 0 {
					came = append(came, Contribution{Ranges: pc.Ranges})
				}
			}
			before := left
			left = left.after(pieces, came)
			for _, c := range came {
				for p := range positions(c.Ranges) {
					if counted[p] {
						t.Fatalf("seed %d: position %d counts twice", seed, p)
					}
					counted[p] = true
				}
			}
			if left.taken() != uint64(len(counted)) || left.next < before.next || len(left.open) > maxOpen {
				t.Fatalf("seed %d: %+v after %d positions", seed, left, len(counted))
			}
			if err := checkRanges(left.open); err != nil {
				t.Fatal(err)
			}
		}
		if uint64(len(counted)) != g.Samples {
			t.Errorf("seed %d: %d of %d positions counted", seed, len(counted), g.Samples)
		}
	}
}

// handOut makes the pieces of a round as plans do, for workers of equal speed.
func handOut(m *Machine, left cursor, workers int) (pieces []Piece) {
	d := draft{cursor: left, workers: make([]int, workers)}
	rest := m.own(&d)
	for range d.workers {
		var rs []shard.Range
		if rs, rest = takeRanges(rest, m.g.Inner*m.g.Batch); len(rs) > 0 {
			pieces = append(pieces, Piece{Ranges: rs})
		}
	}
	return pieces
}

// TestCursorScattered: when the open ranges are too many, a round makes no more of them.
func TestCursorScattered(t *testing.T) {
	m := &Machine{g: Genesis{Batch: 2, Inner: 2, Samples: 1 << 20}}
	left := cursor{next: 10 * maxOpen}
	for i := range uint64(maxOpen) {
		left.open = append(left.open, shard.Range{Lo: 10 * i, Hi: 10*i + 5})
	}
	for lost := range 3 {
		pieces := handOut(m, left, 300)
		var came []Contribution
		if lost > 0 && len(pieces) > 0 {
			came = append(came, Contribution{Ranges: pieces[len(pieces)-1].Ranges})
		}
		if got := left.after(pieces, came); len(got.open) > maxOpen || got.taken() < left.taken() {
			t.Errorf("%d ranges open", len(got.open))
		}
	}
}

// TestCursorWithin: overlapping, unknown and taken positions are refused.
func TestCursorWithin(t *testing.T) {
	g := Genesis{Inner: 1, Batch: 1, Samples: 100}
	left := cursor{next: 40, open: []shard.Range{{Lo: 5, Hi: 10}, {Lo: 20, Hi: 22}}}
	for _, c := range []struct {
		rs []shard.Range
		ok bool
	}{
		{nil, true},
		{[]shard.Range{{Lo: 40, Hi: 100}, {Lo: 5, Hi: 10}}, true},
		{[]shard.Range{{Lo: 4, Hi: 6}}, false},
		{[]shard.Range{{Lo: 9, Hi: 11}}, false},
		{[]shard.Range{{Lo: 39, Hi: 41}}, false},
		{[]shard.Range{{Lo: 99, Hi: 101}}, false},
		{[]shard.Range{{Lo: 50, Hi: 60}, {Lo: 59, Hi: 61}}, false},
		{[]shard.Range{{Lo: 10, Hi: 20}}, false},
	} {
		if got := within(slices.Clone(c.rs), left.free(&g)); got != c.ok {
			t.Errorf("%v: %v", c.rs, got)
		}
	}
}

// TestOwnDeadline: rounds that ended by themselves bring the deadline near them; it never lies before the work is done.
func TestOwnDeadline(t *testing.T) {
	var seen timing
	first := seen.ownDeadline(30*time.Second, 0)
	for range 5 {
		seen.add(33 * time.Second)
	}
	later, more := seen.ownDeadline(30*time.Second, 0), seen.ownDeadline(60*time.Second, time.Second)
	if first < time.Minute || later < 40*time.Second || later > 45*time.Second || more < 77*time.Second {
		t.Errorf("deadlines %v, %v, %v", first, later, more)
	}
}
