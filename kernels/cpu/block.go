package cpu

import (
	"runtime"
	"sync/atomic"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// block is the part of a product whose panels are packed at one time: lines [lo, hi) of the long side, the whole short
// side, and depth steps from k on.
//
// Its tasks stand in one queue: packing of the short side and of the first strip, then for each strip of the long side
// the packing of the next one and its own tiles. If strips are fused, their tasks are one each. A tile waits for its panels, which are tasks further ahead in the
// queue, done or being done; so nobody waits at a barrier, and a worker alone never waits.
type block struct {
	c           matrix
	bias        []float32
	add         bool
	mk          *microkernel
	rows, cols  side
	long, short *side
	lo, hi      int
	k, depth    int
	total       int // length of the sums
	words       int // of a line of a panel: depth, or half of it
	each        int // words of a microkernel run: equal parts of words

	shortPacks, stripPacks int            // packing tasks of the short side and of a strip
	strips, across         int            // strips, and tasks that compute a strip
	fused                  bool           // one task computes a strip, and packs its panels where and when it needs them
	shortLeft              atomic.Int32   // packing tasks of the short side that have not ended
	stripLeft              []atomic.Int32 // and of each strip
}

// side is one of the two operands as c sees it: n lines of c, each with its k numbers.
type side struct {
	o      operand
	stored bool       // lines are rows of the stored matrix, else columns
	step   int        // elements in a word of a panel
	round  dtype.Type // elements are rounded to this type on their way into float32 panels
	n      int        // lines
	unit   int        // lines of a panel
	most   int        // lines of a tile at most
	tile   int        // lines of a tile, a multiple of unit

	kept   []float32 // panels, each (all words of k, unit), of all lines, if the cache has them
	packed []float32 // panels, each (words, unit), of all lines or of those from the block's lo
}

// cut chooses the size of tiles: equal parts, halved until there is enough for everybody. Strips that are enough are
// tasks by themselves: their panels then need not be shared.
func (b *block) cut(all *pool) {
	want := 1
	if all != nil && all.workers() > 1 {
		want = perEach * all.workers()
	}
	for b.fused = false; ; {
		b.rows.tile, b.cols.tile = split(b.rows.n, b.rows.most, b.rows.unit), split(b.cols.n, b.cols.most, b.cols.unit)
		wide := &b.rows
		if b.cols.tile > wide.tile {
			wide = &b.cols
		}
		if b.fused = parts(b.long.n, b.long.tile) >= want; b.fused {
			return
		}
		if parts(b.rows.n, b.rows.tile)*parts(b.cols.n, b.cols.tile) >= want || wide.tile <= wide.unit {
			return
		}
		wide.most = wide.tile / 2
	}
}

// split is the size of equal parts of n, each at most most, but a multiple of unit.
func split(n, most, unit int) int {
	each := parts(n, parts(n, max(most, unit)))
	return parts(each, unit) * unit
}

// parts is n/size rounded up.
func parts(n, size int) int { return (n + size - 1) / size }

// run puts the tasks into the queue and works them off.
func (b *block) run(w *worker, all *pool) {
	b.strips, b.across = parts(b.hi-b.lo, b.long.tile), 1
	b.each = split(max(b.words, 1), blockK, 4)
	b.shortPacks, b.stripPacks = 0, 0
	if b.short.kept == nil {
		b.short.packed = w.scratch(scratchShort, parts(b.short.n, b.short.unit)*b.short.unit*b.words)
	}
	if b.lo == 0 && b.short.kept == nil { // else they are there
		b.shortPacks = parts(parts(b.short.n, b.short.unit), b.perTask(b.short))
	}
	if !b.fused {
		b.across = parts(b.short.n, b.short.tile)
	}
	if !b.fused && b.long.kept == nil {
		b.long.packed = w.scratch(scratchLong, b.strips*b.long.tile*b.words)
		b.stripPacks = parts(b.long.tile/b.long.unit, b.perTask(b.long))
	}
	if len(b.stripLeft) < b.strips {
		b.stripLeft = make([]atomic.Int32, 2*b.strips)
	}
	b.shortLeft.Store(int32(b.shortPacks))
	for s := range b.strips {
		b.stripLeft[s].Store(int32(b.stripPacks))
	}
	tasks := b.shortPacks + b.strips*(b.stripPacks+b.across)
	if all != nil {
		all.each(tasks, w.blockTask)
		return
	}
	for t := range tasks {
		b.task(w, t)
	}
}

// perTask is how many panels of a side a packing task takes.
func (b *block) perTask(s *side) int { return max(1, packMost/(s.unit*max(b.words, 1))) }

// task is the t'th task of the queue.
func (b *block) task(w *worker, t int) {
	if t -= b.shortPacks; t < 0 {
		b.packTask(w, b.short, 0, b.short.n, t+b.shortPacks)
		b.shortLeft.Add(-1)
		return
	}
	if t -= b.stripPacks; t < 0 {
		b.packStrip(w, 0, t+b.stripPacks)
		return
	}
	s, t := t/(b.stripPacks+b.across), t%(b.stripPacks+b.across)
	ahead := b.stripPacks
	if s+1 == b.strips {
		ahead = 0 // there is no next strip
	}
	if t < ahead {
		b.packStrip(w, s+1, t)
		return
	}
	b.tileTask(w, s, t-ahead)
}

func (b *block) packStrip(w *worker, s, t int) {
	lo := b.lo + s*b.long.tile
	b.packTask(w, b.long, lo, min(b.hi, lo+b.long.tile), t)
	b.stripLeft[s].Add(-1)
}

// packTask is the t'th share of packing lines [lo, hi) of a side.
func (b *block) packTask(w *worker, s *side, lo, hi, t int) {
	per := b.perTask(s) * s.unit
	from := 0
	if s == b.long {
		from = b.lo
	}
	if lo += t * per; lo < hi {
		w.packLines(s.packed[(lo-from)*b.words:], s, lo, min(hi, lo+per), b.k, b.depth, s.unit*b.words)
	}
}

// await returns when the packing tasks that left counts have ended.
func await(left *atomic.Int32) {
	for n := 0; left.Load() > 0; n++ {
		if n > 1000 { // whoever packs has lost its processor
			runtime.Gosched()
		}
	}
}
