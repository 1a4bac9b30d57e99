package cpu

// packer moves panels with vector instructions; in plain Go there is none. Lines of the source are ld elements apart,
// rows of the panel width elements.
type packer struct {
	quads func(dst, src *float32, ld, width, quads, blocks int) // transposes 4·quads lines, 4·blocks elements of each
	pair  func(dst, src *float32, ld, width, blocks int)        // transposes 2 lines
	rows  func(dst, src *float32, ld, width, depth int)         // copies the first width elements, an even number, of depth lines
}

// pack packs the panel of a side that starts at line lo: dst[x*unit+y] is step (k+x) of line (lo+y), and zero for lines
// that do not exist.
func (w *worker) pack(dst []float32, s *side, lo, k, depth int) {
	by, m, have := &w.fam.pack, s.o.mat, min(s.unit, s.n-lo)
	if depth == 0 {
		return
	}
	if have < s.unit {
		clear(dst)
	}
	switch {
	case s.stored:
		by.transpose(dst, m.p[lo*m.ld+k:], m.ld, s.unit, have, depth)
	case have == s.unit && by.rows != nil:
		by.rows(&dst[0], &m.p[k*m.ld+lo], m.ld, s.unit, depth)
	default:
		for x := range depth {
			copy(dst[x*s.unit:x*s.unit+have], m.p[(k+x)*m.ld+lo:])
		}
	}
}

// transpose packs rows of depth elements: by vectors what it can, the rest one by one.
func (by *packer) transpose(dst, src []float32, ld, width, lines, depth int) {
	blocks, done := depth/4, 0
	if by.quads != nil && blocks > 0 {
		if quads := lines / 4; quads > 0 {
			by.quads(&dst[0], &src[0], ld, width, quads, blocks)
			done = 4 * quads
		}
		if lines-done >= 2 {
			by.pair(&dst[done], &src[done*ld], ld, width, blocks)
			done += 2
		}
	}
	for y := range lines {
		from := 0
		if y < done {
			from = 4 * blocks
		}
		for x := from; x < depth; x++ {
			dst[x*width+y] = src[y*ld+x]
		}
	}
}
