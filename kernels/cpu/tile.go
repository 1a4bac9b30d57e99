package cpu

// rect is a part of c.
type rect struct{ rlo, rhi, clo, chi int }

// panels are packed panels that a tile reads, from the tile's first line on.
type panels struct {
	p           []float32
	unit, depth int
	skip        int // steps before the first
}

// at is where line, the first of a panel, starts at a step.
func (p panels) at(line, step int) *float32 { return &p.p[line*p.depth+(step-p.skip)*p.unit] }

// tileTask computes the t'th tile of strip s.
func (b *block) tileTask(w *worker, s, t int) {
	long, short := b.long, b.short
	llo, slo := b.lo+s*long.tile, t*short.tile
	lhi, shi := min(b.hi, llo+long.tile), min(short.n, slo+short.tile)
	r := rect{slo, shi, llo, lhi}
	if long == &b.rows {
		r = rect{llo, lhi, slo, shi}
	}
	add := b.add || b.k > 0
	if b.k == 0 && (b.bias != nil || b.depth == 0) {
		b.prefill(r)
		add = true
	}
	await(&b.shortLeft)
	await(&b.stripLeft[s])
	ps := panels{p: short.packed[slo*b.depth:], unit: short.unit, depth: b.depth}
	for k := 0; k < b.depth; k += blockK {
		deep := min(blockK, b.depth-k)
		pl := panels{unit: long.unit, depth: b.depth}
		if b.stripPacks > 0 {
			pl.p = long.packed[(llo-b.lo)*b.depth:]
		} else { // one tile to a strip: packed where and when it is needed
			pl.p, pl.depth, pl.skip = w.scratch(scratchStrip, long.tile*blockK), deep, k
			for at := llo; at < lhi; at += long.unit {
				w.pack(pl.p[(at-llo)*deep:][:long.unit*deep], long, at, b.k+k, deep)
			}
		}
		if long == &b.rows {
			b.sweep(w, r, pl, ps, k, deep, add || k > 0)
		} else {
			b.sweep(w, r, ps, pl, k, deep, add || k > 0)
		}
	}
}

// prefill writes what the sums of a tile start from where that is not zero or c itself.
func (b *block) prefill(r rect) {
	for i := r.rlo; i < r.rhi; i++ {
		row := b.c.row(i)[r.clo:r.chi]
		if !b.add {
			clear(row)
		}
		if b.bias != nil {
			for j, v := range b.bias[r.clo:r.chi] {
				row[j] += v
			}
		}
	}
}

// sweep goes on with the sums of a tile for deep steps from k. The panel of a stays in the first-level cache, those of
// b in the second.
func (b *block) sweep(w *worker, r rect, pa, pb panels, k, deep int, adding bool) {
	mr, nr, ld, add := b.mk.mr, b.mk.nr, b.c.ld, 0
	if adding {
		add = 1
	}
	for i := r.rlo; i < r.rhi; i += mr {
		a, rows := pa.at(i-r.rlo, k), min(mr, r.rhi-i)
		for j := r.clo; j < r.chi; j += nr {
			to, cols := b.c.p[i*ld+j:], min(nr, r.chi-j)
			if rows == mr && cols == nr {
				_ = to[(mr-1)*ld+nr-1] // assembly does not check
				b.mk.run(deep, a, pb.at(j-r.clo, k), &to[0], ld, add)
			} else {
				b.edge(w.full[:], a, pb.at(j-r.clo, k), deep, to, rows, cols, add)
			}
		}
	}
}

// edge computes a microkernel's tile that reaches over the border, through a full one.
func (b *block) edge(full []float32, pa, pb *float32, deep int, to []float32, rows, cols, add int) {
	nr, ld := b.mk.nr, b.c.ld
	if add != 0 { // what lies beyond the border is computed and dropped
		for i := range rows {
			copy(full[i*nr:i*nr+cols], to[i*ld:])
		}
	}
	b.mk.run(deep, pa, pb, &full[0], nr, add)
	for i := range rows {
		copy(to[i*ld:i*ld+cols], full[i*nr:])
	}
}
