package cpu

import "github.com/seed-7b27c88a/shoal/kernels"

// Cache blocks of the product (Goto & van de Geijn 2008, Van Zee & van de Geijn 2015). Results do not depend on them:
// the microkernels go on with the sum that c holds.
const (
	blockK = 256  // depth of packed panels: one of b (nr columns) stays in the first-level cache
	blockN = 2048 // columns of b packed at a time, for the last-level cache
	blockM = 960  // rows of a packed at a time; blocks of tileM rows stay in the second-level cache
	tileM  = 120  // rows of a task
	tileN  = 256  // columns of a task
)

// product is c (m, n) (+)= op(a) · op(b), with bias added to every row first.
type product struct {
	m, n, k int
	a, b    operand
	c       mat[float32]
	bias    []float32 // n, or nil
	add     bool
}

// operand is a matrix read as stored or transposed.
type operand struct {
	mat[float32]
	trans bool
}

func matMul(d *Device, c *kernels.Cmd) error {
	p := product{
		c: f32(c.T[0]), a: operand{f32(c.T[1]), c.I[0] != 0}, b: operand{f32(c.T[2]), c.I[1] != 0},
		add: kernels.Mode(c.I[2]) == kernels.Add,
	}
	if !c.T[3].None() {
		p.bias = f32(c.T[3]).row(0)
	}
	d.gemm(p)
	return nil
}

// gemm runs a product on all workers.
func (d *Device) gemm(p product) {
	p.run(d.pool.work[0], d.pool.each)
}

// gemm runs a product on this worker alone.
func (w *worker) gemm(p product) {
	p.run(w, func(n int, task func(*worker, int)) {
		for i := range n {
			task(w, i)
		}
	})
}

// run walks the blocks. Panels are packed into the scratch memory of w by all workers; then the tiles of c are
// computed by all workers. A tile belongs to one task, and k is walked in order.
func (p *product) run(w *worker, each func(int, func(*worker, int))) {
	if a := p.a; a.trans {
		p.m, p.k = a.cols, a.rows
	} else {
		p.m, p.k = a.rows, a.cols
	}
	p.n = p.c.cols
	if p.m == 0 || p.n == 0 {
		return
	}
	if p.k == 0 || p.bias != nil {
		p.prefill()
	}
	mk := w.fam.gemm
	for jc := 0; jc < p.n; jc += blockN {
		nc := min(blockN, p.n-jc)
		for kc := 0; kc < p.k; kc += blockK {
			for ic := 0; ic < p.m; ic += blockM {
				b := block{p: p, mk: mk, i: ic, j: jc, k: kc, m: min(blockM, p.m-ic), n: nc, depth: min(blockK, p.k-kc)}
				b.run(w, each, ic == 0)
			}
		}
	}
}

// prefill writes what the sums start from where that is not zero or c itself.
func (p *product) prefill() {
	for i := range p.m {
		row := p.c.row(i)
		if !p.add {
			clear(row)
		}
		for j, v := range p.bias {
			row[j] += v
		}
	}
	p.add = true
}

// block is the part of a product between two packings.
type block struct {
	p           *product
	mk          microkernel
	i, j, k     int // where it starts
	m, n, depth int
	packedA     []float32 // panels of mr rows, each (depth, mr)
	packedB     []float32 // panels of nr columns, each (depth, nr)
}

func (b *block) run(w *worker, each func(int, func(*worker, int)), newB bool) {
	mr, nr := b.mk.mr, b.mk.nr
	panelsA, panelsB := (b.m+mr-1)/mr, (b.n+nr-1)/nr
	b.packedA = w.scratch(scratchA, panelsA*mr*b.depth)
	b.packedB = w.scratch(scratchB, panelsB*nr*b.depth)
	todo := panelsA
	if newB { // else the panels of the block above are still there
		todo += panelsB
	}
	const few = 4 // panels to a task
	each((todo+few-1)/few, func(w *worker, t int) {
		for q := t * few; q < min(todo, (t+1)*few); q++ {
			if q < panelsA {
				b.p.a.pack(w.fam.pack, b.packedA[q*mr*b.depth:][:mr*b.depth], b.i+q*mr, mr, b.k, b.depth, !b.p.a.trans, b.p.m)
			} else {
				q := q - panelsA
				b.p.b.pack(w.fam.pack, b.packedB[q*nr*b.depth:][:nr*b.depth], b.j+q*nr, nr, b.k, b.depth, b.p.b.trans, b.p.n)
			}
		}
	})
	tm, tn := tileM/mr*mr, tileN/nr*nr
	across := (b.n + tn - 1) / tn
	each((b.m+tm-1)/tm*across, func(w *worker, t int) {
		i, j := t/across*tm, t%across*tn
		b.tile(i, min(b.m, i+tm), j, min(b.n, j+tn))
	})
}

// tile computes rows [ilo, ihi) and columns [jlo, jhi) of the block.
func (b *block) tile(ilo, ihi, jlo, jhi int) {
	mr, nr, c := b.mk.mr, b.mk.nr, b.p.c
	add := 0
	if b.p.add || b.k > 0 {
		add = 1
	}
	for j := jlo; j < jhi; j += nr {
		pb := &b.packedB[j*b.depth]
		for i := ilo; i < ihi; i += mr {
			pa := &b.packedA[i*b.depth]
			to := c.p[(b.i+i)*c.ld+b.j+j:]
			if i+mr <= ihi && j+nr <= jhi {
				b.mk.run(b.depth, pa, pb, &to[0], c.ld, add)
			} else {
				b.edge(pa, pb, to, min(mr, ihi-i), min(nr, jhi-j), add)
			}
		}
	}
}

// maxTile is the largest mr·nr.
const maxTile = 12 * 32

// edge computes a tile that reaches over c's border, through a full one.
func (b *block) edge(pa, pb *float32, to []float32, rows, cols, add int) {
	var full [maxTile]float32
	nr, ld := b.mk.nr, b.p.c.ld
	if add != 0 {
		for i := range rows {
			copy(full[i*nr:i*nr+cols], to[i*ld:])
		}
	}
	b.mk.run(b.depth, pa, pb, &full[0], nr, add)
	for i := range rows {
		copy(to[i*ld:i*ld+cols], full[i*nr:])
	}
}

// pack copies width lines from lo, each of depth elements from k, side by side: dst[x*width+y] is element (k+x) of line
// (lo+y). Lines are rows of the stored matrix if rows is true, else columns; beyond limit they are zero.
func (o operand) pack(by packer, dst []float32, lo, width, k, depth int, rows bool, limit int) {
	have := min(width, limit-lo)
	if have < width {
		clear(dst)
	}
	if rows {
		by.transpose(dst, o.p[lo*o.ld+k:], o.ld, width, have, depth)
		return
	}
	for x := range depth {
		copy(dst[x*width:x*width+have], o.p[(k+x)*o.ld+lo:])
	}
}

// transpose packs lines rows of depth elements: by vectors what it can, the rest one by one.
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
