package cpu

// rect is a part of c.
type rect struct{ rlo, rhi, clo, chi int }

// panels are packed panels that a tile reads, from the tile's first line on.
type panels struct {
	p           []float32
	unit, words int
	skip        int // words before the first
}

// at is where line, the first of a panel, starts at a word.
func (p panels) at(line, word int) *float32 { return &p.p[line*p.words+(word-p.skip)*p.unit] }

// tileTask computes the t'th tile of strip s.
func (b *block) tileTask(w *worker, s, t int) {
	long, short := b.long, b.short
	llo, slo := b.lo+s*long.tile, t*short.tile
	lhi, shi := min(b.hi, llo+long.tile), min(short.n, slo+short.tile)
	r := rect{slo, shi, llo, lhi}
	if long == &b.rows {
		r = rect{llo, lhi, slo, shi}
	}
	c, add := b.begin(w, r)
	await(&b.shortLeft)
	await(&b.stripLeft[s])
	ps := panels{p: short.packed[slo*b.words:], unit: short.unit, words: b.words}
	for word := 0; word < b.words; word += blockK {
		count := min(blockK, b.words-word)
		pl := panels{unit: long.unit, words: b.words}
		if b.stripPacks > 0 {
			pl.p = long.packed[(llo-b.lo)*b.words:]
		} else { // one tile to a strip: packed where and when it is needed
			k, deep := word*long.step, min(blockK*long.step, b.depth-word*long.step)
			pl.p, pl.words, pl.skip = w.scratch(scratchStrip, long.tile*blockK), count, word
			for at := llo; at < lhi; at += long.unit {
				w.pack(pl.p[(at-llo)*count:][:long.unit*count], long, at, b.k+k, deep)
			}
		}
		pa, pb := ps, pl
		if long == &b.rows {
			pa, pb = pl, ps
		}
		b.sweep(w, c, pa, pb, word, count, add || word > 0)
	}
	if b.c.half != nil {
		for i := range c.rows {
			w.narrow(b.c.half[(r.rlo+i)*b.c.ld+r.clo:], c.row(i))
		}
	}
}

// begin gives the sums of a tile and whether they hold what to start from, which is zero, bias or c itself.
func (b *block) begin(w *worker, r rect) (c mat[float32], add bool) {
	rows, cols := r.rhi-r.rlo, r.chi-r.clo
	if b.c.half == nil {
		c = b.c.window(r.rlo, r.rhi, r.clo, r.chi)
	} else {
		c = mat[float32]{w.scratch(scratchSums, rows*cols), rows, cols, cols}
	}
	if b.k > 0 {
		return c, true
	}
	for i := range rows {
		if b.add && b.c.half != nil {
			w.widen(c.row(i), b.c.half[(r.rlo+i)*b.c.ld+r.clo:][:cols])
		}
		if !b.add && (b.bias != nil || b.depth == 0) {
			clear(c.row(i))
		}
		if b.bias != nil {
			w.apply(&w.fam.add, cols, c.row(i), c.row(i), b.bias[r.clo:r.chi])
		}
	}
	return c, b.add || b.bias != nil
}

// sweep goes on with the sums of a tile for count words. The panel of a stays in the first-level cache, those of b in
// the second.
func (b *block) sweep(w *worker, c mat[float32], pa, pb panels, word, count int, adding bool) {
	mr, nr, add := b.mk.mr, b.mk.nr, 0
	if adding {
		add = 1
	}
	for i := 0; i < c.rows; i += mr {
		a, rows := pa.at(i, word), min(mr, c.rows-i)
		for j := 0; j < c.cols; j += nr {
			to, cols := c.p[i*c.ld+j:], min(nr, c.cols-j)
			if rows == mr && cols == nr {
				_ = to[(mr-1)*c.ld+nr-1] // assembly does not check
				b.mk.run(count, a, pb.at(j, word), &to[0], c.ld, add)
			} else {
				b.edge(w.full[:], a, pb.at(j, word), count, to, c.ld, rows, cols, add)
			}
		}
	}
}

// edge computes a microkernel's tile that reaches over the border, through a full one.
func (b *block) edge(full []float32, pa, pb *float32, count int, to []float32, ld, rows, cols, add int) {
	nr := b.mk.nr
	if add != 0 { // what lies beyond the border is computed and dropped
		for i := range rows {
			copy(full[i*nr:i*nr+cols], to[i*ld:])
		}
	}
	b.mk.run(count, pa, pb, &full[0], nr, add)
	for i := range rows {
		copy(to[i*ld:i*ld+cols], full[i*nr:])
	}
}
