package cpu

// packer moves panels with vector instructions; in plain Go there is none. Lines of the source are ld elements apart,
// rows of the panel width elements.
type packer struct {
	quads func(dst, src *float32, ld, width, quads, blocks int) // transposes 4·quads lines, 4·blocks elements of each
	pair  func(dst, src *float32, ld, width, blocks int)        // transposes 2 lines
	rows  func(dst, src *float32, ld, width, depth int)         // copies the first width elements, an even number, of depth lines
}

// panel says where a packed panel comes from: width lines from lo, of which limit exist, and depth elements of each
// from k on.
type panel struct{ lo, width, limit, k, depth int }

// pack puts the lines of a panel side by side: dst[x*width+y] is element (k+x) of line (lo+y). Lines are rows of the
// stored matrix if rows is true, else columns; those beyond the limit are zero.
func (by packer) pack(dst []float32, m mat[float32], rows bool, p panel) {
	have := min(p.width, p.limit-p.lo)
	if have < p.width {
		clear(dst)
	}
	switch {
	case rows:
		by.transpose(dst, m.p[p.lo*m.ld+p.k:], m.ld, p.width, have, p.depth)
	case have == p.width && by.rows != nil:
		by.rows(&dst[0], &m.p[p.k*m.ld+p.lo], m.ld, p.width, p.depth)
	default:
		for x := range p.depth {
			copy(dst[x*p.width:x*p.width+have], m.p[(p.k+x)*m.ld+p.lo:])
		}
	}
}

// transpose packs rows of depth elements: by vectors what it can, the rest one by one.
func (by packer) transpose(dst, src []float32, ld, width, lines, depth int) {
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
