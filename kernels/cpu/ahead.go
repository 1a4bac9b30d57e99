package cpu

import "unsafe"

// ahead is memory that a worker reads next. It is brought into the second-level cache a few lines at a time, between the
// runs of the microkernel: that leaves most of the ways to memory idle, and packing then does not wait for it.
type ahead struct {
	at    unsafe.Pointer
	ld    int // bytes between rows
	rows  int // that are left
	lines int // cache lines of a row
	done  int // of which are fetched
	each  int // lines between two runs
}

const (
	cacheLine  = 64
	fetchLess  = 512 << 10 // bytes of an operand that stays in the cache anyway
	panelsLess = 1 << 20   // bytes of panels that nearly stay there
	fetchMost  = 384 << 10 // bytes of b's panels at most, where that is the other side: with more, the cache has no room for what comes
)

// plan gives the memory of rows to fetch within so many turns.
func (a *ahead) plan(at unsafe.Pointer, ld, rows, bytes, turns int) {
	lines := parts(bytes, cacheLine)
	*a = ahead{at: at, ld: ld, rows: rows, lines: lines, each: parts(rows*lines, max(turns, 1))}
}

// turn fetches what is due.
func (a *ahead) turn(fetch func(at unsafe.Pointer, lines int)) {
	for n := a.each; n > 0 && a.rows > 0; {
		some := min(n, a.lines-a.done)
		fetch(unsafe.Add(a.at, a.done*cacheLine), some)
		n -= some
		if a.done += some; a.done < a.lines {
			continue
		}
		if a.done, a.rows = 0, a.rows-1; a.rows > 0 { // a pointer never leaves the memory it was made from
			a.at = unsafe.Add(a.at, a.ld)
		}
	}
}

// aheadOfStrip plans for the part of the long side that is packed after word-1 of lines [lo, hi), while the short side's
// tiles [slo, shi) are worked off.
func (b *block) aheadOfStrip(w *worker, lo, hi, slo, shi, word int) {
	w.ahead.rows = 0
	s, o := b.long, &b.long.o
	if w.fam.fetch == nil || !b.fused || s.kept != nil || o.q != nil || 4*s.n*b.words < fetchLess {
		return
	}
	if b.short == &b.cols && 4*b.short.n*b.each > fetchMost { // panels of a need no room: the microkernel fetches the next one
		return
	}
	turns := parts(hi-lo, s.unit) * parts(shi-slo, b.short.unit)
	if word >= b.words { // the next strip, which is this worker's if there is no other
		word, lo, hi = 0, hi, min(b.hi, hi+s.tile)
	}
	if lo >= hi {
		return
	}
	k := word * s.step
	row, col, rows, cols := b.k+k, lo, min(b.each*s.step, b.depth-k), hi-lo
	if s.stored {
		row, col, rows, cols = col, row, cols, rows
	}
	at, size := unsafe.Pointer(unsafe.SliceData(o.p)), 4
	if o.half != nil {
		at, size = unsafe.Pointer(unsafe.SliceData(o.half)), 2
	}
	w.ahead.plan(unsafe.Add(at, (row*o.ld+col)*size), o.ld*size, rows, cols*size, turns)
}

// aheadOfPanels plans for the panels of b that follow those of the tile at a line, where b is the short side and too
// large for the cache. Panels of a are fetched by the microkernel.
func (b *block) aheadOfPanels(w *worker, lines, at, slo, shi, word, count int) {
	s := b.short
	if w.fam.fetch == nil || s != &b.cols || 4*s.n*b.words < panelsLess {
		return
	}
	turns := parts(lines, b.long.unit) * parts(min(s.tile, shi-at), s.unit)
	if at += s.tile; at >= shi {
		at, word = slo, word+count
	}
	w.ahead.rows = 0
	if count = min(count, b.words-word); count <= 0 {
		return
	}
	p := b.panelsOf(s, at, 0)
	w.ahead.plan(unsafe.Pointer(p.at(0, word)), 4*p.unit*p.words, parts(min(s.tile, shi-at), s.unit), 4*p.unit*count, turns)
}
