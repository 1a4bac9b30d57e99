package cuda

import (
	"math/rand/v2"
	"testing"
)

// TestHeap gives and takes back at random and checks the invariants after each.
func TestHeap(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 1))
		h := &heap{slabBytes: 1 << 16}
		if seed%4 == 3 {
			h.slabBytes = 0
		}
		next, live := uint64(unit), map[uint64]int{}
		for range 600 {
			if rng.IntN(5) < 3 {
				n := 1 + rng.IntN(1<<uint(1+rng.IntN(17)))
				at, ok := h.take(n)
				if !ok {
					s := span{next, h.slabFor(n)}
					next += uint64(s.bytes) // slabs that touch must not be joined
					h.add(s)
					if at, ok = h.take(n); !ok {
						t.Fatalf("seed %d: no room in a new slab", seed)
					}
				}
				live[at] = rounded(n)
			} else {
				for at := range live {
					delete(live, at)
					h.put(at)
					break
				}
			}
			checkHeap(t, h, live)
		}
		for at := range live {
			h.put(at)
		}
		if want := min(1, h.slabBytes); len(h.slabs) != want || len(h.free) != want {
			t.Errorf("seed %d: %d slabs and %d free pieces are left of an empty heap", seed, len(h.slabs), len(h.free))
		}
	}
}

func checkHeap(t *testing.T, h *heap, live map[uint64]int) {
	t.Helper()
	total := int64(0)
	for i, f := range h.free {
		if i > 0 && h.free[i-1].at+uint64(h.free[i-1].bytes) > f.at {
			t.Fatalf("free pieces overlap: %v", h.free)
		}
		for at, n := range live {
			if at < f.at+uint64(f.bytes) && f.at < at+uint64(n) {
				t.Fatalf("free piece %v is in use", f)
			}
		}
		total += int64(f.bytes)
	}
	for _, n := range live {
		total += int64(n)
	}
	if total != h.held() {
		t.Fatalf("%d bytes of %d are accounted for", total, h.held())
	}
}
