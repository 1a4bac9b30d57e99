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

// tileTask computes the t'th tile of strip s, or all its tiles if they are fused.
func (b *block) tileTask(w *worker, s, t int) {
	llo := b.lo + s*b.long.tile
	lhi := min(b.hi, llo+b.long.tile)
	slo, shi := t*b.short.tile, min(b.short.n, (t+1)*b.short.tile)
	if b.fused {
		slo, shi = 0, b.short.n
	}
	c, add := b.begin(w, b.rect(llo, lhi, slo, shi))
	await(&b.shortLeft)
	await(&b.stripLeft[s])
	for word := 0; word < b.words; word += b.each {
		count := min(b.each, b.words-word)
		pl := b.strip(w, llo, lhi, word, count)
		b.aheadOfStrip(w, llo, lhi, slo, shi, word+count)
		for at := slo; at < shi; at += b.short.tile {
			ps := b.panelsOf(b.short, at, 0)
			b.aheadOfPanels(w, lhi-llo, at, slo, shi, word, count)
			x := b.rect(0, lhi-llo, at-slo, min(shi, at+b.short.tile)-slo)
			pa, pb := ps, pl
			if b.long == &b.rows {
				pa, pb = pl, ps
			}
			b.sweep(w, c.window(x.rlo, x.rhi, x.clo, x.chi), pa, pb, word, count, add || word > 0)
		}
	}
	if r := b.rect(llo, lhi, slo, shi); b.c.half != nil {
		for i := range c.rows {
			w.narrow(b.c.half[(r.rlo+i)*b.c.ld+r.clo:], c.row(i))
		}
	}
}

// rect is lines [llo, lhi) of the long side and [slo, shi) of the short side.
func (b *block) rect(llo, lhi, slo, shi int) rect {
	if b.long == &b.rows {
		return rect{llo, lhi, slo, shi}
	}
	return rect{slo, shi, llo, lhi}
}

// strip gives the panels of lines [lo, hi) of the long side, at least count words of them.
func (b *block) strip(w *worker, lo, hi, word, count int) panels {
	long := b.long
	if !b.fused || long.kept != nil {
		return b.panelsOf(long, lo, b.lo)
	}
	k, deep := word*long.step, min(count*long.step, b.depth-word*long.step)
	p := w.scratch(scratchStrip, long.tile*count)
	w.packLines(p, long, lo, hi, b.k+k, deep, long.unit*count)
	return panels{p, long.unit, count, word}
}

// panelsOf gives the panels of a side from a line on; the packed ones start with line from.
func (b *block) panelsOf(s *side, line, from int) panels {
	if s.kept != nil {
		words := parts(b.total, s.step)
		return panels{s.kept[line*words:], s.unit, words, -b.k / s.step}
	}
	return panels{p: s.packed[(line-from)*b.words:], unit: s.unit, words: b.words}
}

// begin gives the sums of a tile and whether they hold what to start from, which is zero, bias or c itself.
func (b *block) begin(w *worker, r rect) (c mat[float32], add bool) {
	rows, cols := r.rhi-r.rlo, r.chi-r.clo
	if b.c.half == nil {
		c = b.c.mat.window(r.rlo, r.rhi, r.clo, r.chi)
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
		v, next := b.mk.of(rows), a
		if i+mr < c.rows {
			next = pa.at(i+mr, word)
		}
		for j := 0; j < c.cols; j += nr {
			to, cols := c.p[i*c.ld+j:], min(nr, c.cols-j)
			if rows == v.rows && cols == nr {
				_ = to[(rows-1)*c.ld+nr-1] // assembly does not check
				v.run(count, a, pb.at(j, word), &to[0], c.ld, add, next, after(&c, i, j, mr, nr))
			} else {
				b.edge(v, w.full[:], a, pb.at(j, word), count, to, c.ld, rows, cols, add, next)
			}
			if w.ahead.rows > 0 {
				w.ahead.turn(w.fam.fetch)
			}
		}
	}
}

// after is where the (mr, nr) part of c starts that is computed after the one at (i, j).
func after(c *mat[float32], i, j, mr, nr int) *float32 {
	switch {
	case j+nr < c.cols:
		j += nr
	case i+mr < c.rows:
		i, j = i+mr, 0
	}
	return &c.p[i*c.ld+j]
}

// edge computes a microkernel's tile that reaches over the border, through a full one.
func (b *block) edge(v variant, full []float32, pa, pb *float32, count int, to []float32, ld, rows, cols, add int, next *float32) {
	nr := b.mk.nr
	if add != 0 { // what lies beyond the border is computed and dropped
		for i := range rows {
			copy(full[i*nr:i*nr+cols], to[i*ld:])
		}
	}
	v.run(count, pa, pb, &full[0], nr, add, next, &full[0])
	for i := range rows {
		copy(to[i*ld:i*ld+cols], full[i*nr:])
	}
}
