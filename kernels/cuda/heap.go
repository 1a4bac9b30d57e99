package cuda

import "slices"

// heap gives pieces of slabs away: device memory is taken from the driver in large slabs, because taking waits for the
// GPU, and cut here. It knows addresses alone, touches no memory, and is not safe for concurrent use.
//
// Invariants: the pieces in free are disjoint, sorted by address, never adjacent within a slab, multiples of unit.
type heap struct {
	slabBytes int // of a regular slab; 0: every piece is a slab of its own
	slabs     []span
	free      []span
	live      map[uint64]int // address of a piece that is given away → its bytes
}

// span is the addresses [at, at+bytes).
type span struct {
	at    uint64
	bytes int
}

// unit is what pieces are multiples of: what the driver aligns memory to.
const unit = 256

// rounded is the room that n bytes take.
func rounded(n int) int { return max(unit, (n+unit-1)/unit*unit) }

// take finds a piece of n bytes, the smallest that fits, and false if no slab has one.
func (h *heap) take(n int) (uint64, bool) {
	n = rounded(n)
	best := -1
	for i, f := range h.free {
		if f.bytes >= n && (best < 0 || f.bytes < h.free[best].bytes) {
			best = i
		}
	}
	if best < 0 {
		return 0, false
	}
	f := &h.free[best]
	at := f.at
	if f.at, f.bytes = f.at+uint64(n), f.bytes-n; f.bytes == 0 {
		h.free = slices.Delete(h.free, best, best+1)
	}
	h.give(at, n)
	return at, true
}

func (h *heap) give(at uint64, n int) {
	if h.live == nil {
		h.live = map[uint64]int{}
	}
	h.live[at] = n
}

// slabFor is how large a slab must be for a piece of n bytes.
func (h *heap) slabFor(n int) int { return max(rounded(n), h.slabBytes) }

// add puts a new slab under the heap's care.
func (h *heap) add(s span) {
	h.slabs = append(h.slabs, s)
	h.release(s)
}

// put takes a piece back. It returns a slab that has become empty and is forgotten, for the driver.
func (h *heap) put(at uint64) (empty span, ok bool) {
	n, live := h.live[at]
	if !live {
		panic("kernels/cuda: free of memory that is not in use")
	}
	delete(h.live, at)
	h.release(span{at, n})
	return h.emptied(at)
}

// release adds a span to the free ones and joins neighbours of one slab.
func (h *heap) release(s span) {
	i, _ := slices.BinarySearchFunc(h.free, s, func(a, b span) int {
		if a.at < b.at {
			return -1
		}
		return 1
	})
	h.free = slices.Insert(h.free, i, s)
	h.join(i)
	if i > 0 {
		h.join(i - 1)
	}
}

// join makes one span of the i-th free one and the next, if they touch within a slab.
func (h *heap) join(i int) {
	if i+1 >= len(h.free) {
		return
	}
	a, b := &h.free[i], h.free[i+1]
	if a.at+uint64(a.bytes) == b.at && h.slabOf(a.at) == h.slabOf(b.at) {
		a.bytes += b.bytes
		h.free = slices.Delete(h.free, i+1, i+2)
	}
}

// slabOf is the index of the slab that has an address.
func (h *heap) slabOf(at uint64) int {
	return slices.IndexFunc(h.slabs, func(s span) bool { return at >= s.at && at < s.at+uint64(s.bytes) })
}

// emptied forgets the slab of an address if nothing of it is in use and it is not the only one.
func (h *heap) emptied(at uint64) (span, bool) {
	i := h.slabOf(at)
	s := h.slabs[i]
	f := slices.Index(h.free, s)
	if f < 0 || len(h.slabs) == 1 && h.slabBytes > 0 {
		return span{}, false
	}
	h.free, h.slabs = slices.Delete(h.free, f, f+1), slices.Delete(h.slabs, i, i+1)
	return s, true
}

// trim forgets the slabs of which nothing is in use, and returns them for the driver.
func (h *heap) trim() (empty []span) {
	for _, s := range slices.Clone(h.slabs) {
		if f := slices.Index(h.free, s); f >= 0 {
			h.free = slices.Delete(h.free, f, f+1)
			h.slabs = slices.DeleteFunc(h.slabs, func(o span) bool { return o == s })
			empty = append(empty, s)
		}
	}
	return empty
}

// held is the bytes of all slabs.
func (h *heap) held() (n int64) {
	for _, s := range h.slabs {
		n += int64(s.bytes)
	}
	return n
}
