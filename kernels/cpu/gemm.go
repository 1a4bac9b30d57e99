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
	narrow = 16   // products of at most so many columns take the narrow microkernel

	panelsPerTask = 4       // of packing
	maxTile       = 12 * 32 // the largest mr·nr
)

// product is c (m, n) (+)= op(a) · op(b), with bias added to every row first.
type product struct {
	a, b operand
	c    mat[float32]
	bias []float32 // n, or nil
	add  bool
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
func (d *Device) gemm(p product) { d.pool.work[0].multiply(p, d.pool) }

// gemm runs a product on this worker alone.
func (w *worker) gemm(p product) { w.multiply(p, nil) }

// multiply walks the blocks. Panels are packed into w's scratch memory by all workers of the pool; then they compute
// the tiles of c. A tile belongs to one task, and k is walked in order.
func (w *worker) multiply(p product, all *pool) {
	m, n, k := p.c.rows, p.c.cols, p.a.cols
	if p.a.trans {
		k = p.a.rows
	}
	if m == 0 || n == 0 {
		return
	}
	if k == 0 || p.bias != nil {
		p.prefill()
	}
	b := &w.block
	b.product, b.mk = p, &w.fam.gemm
	if n <= narrow {
		b.mk = &w.fam.narrow
	}
	for b.j = 0; b.j < n; b.j += blockN {
		for b.k = 0; b.k < k; b.k += blockK {
			for b.i = 0; b.i < m; b.i += blockM {
				b.m, b.n, b.depth = min(blockM, m-b.i), min(blockN, n-b.j), min(blockK, k-b.k)
				b.run(w, all)
			}
		}
	}
}

// prefill writes what the sums start from where that is not zero or c itself.
func (p *product) prefill() {
	for i := range p.c.rows {
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
	product
	mk                 *microkernel
	i, j, k            int       // where it starts
	m, n, depth        int       // its size
	panelsA, panelsB   int       // to pack: b's only when they are new
	packedA            []float32 // panels of mr rows, each (depth, mr)
	packedB            []float32 // panels of nr columns, each (depth, nr)
	tileRows, tileCols int       // size of a task's tile
	across             int       // tiles side by side
}

func (b *block) run(w *worker, all *pool) {
	mr, nr := b.mk.mr, b.mk.nr
	b.panelsA, b.panelsB = (b.m+mr-1)/mr, (b.n+nr-1)/nr
	b.packedA = w.scratch(scratchA, b.panelsA*mr*b.depth)
	b.packedB = w.scratch(scratchB, b.panelsB*nr*b.depth)
	if b.i > 0 { // the panels of the block above are still there
		b.panelsB = 0
	}
	b.tileRows, b.tileCols = tileM/mr*mr, tileN/nr*nr
	b.across = (b.n + b.tileCols - 1) / b.tileCols
	packs, tiles := (b.panelsA+b.panelsB+panelsPerTask-1)/panelsPerTask, (b.m+b.tileRows-1)/b.tileRows*b.across
	if all != nil {
		all.each(packs, w.packTask)
		all.each(tiles, w.tileTask)
		return
	}
	for t := range packs {
		b.packTask(w, t)
	}
	for t := range tiles {
		b.tileTask(w, t)
	}
}

// packTask packs a few panels, those of a first.
func (b *block) packTask(w *worker, t int) {
	mr, nr, lo := b.mk.mr, b.mk.nr, t*panelsPerTask
	for q := lo; q < min(lo+panelsPerTask, b.panelsA+b.panelsB); q++ {
		if q < b.panelsA {
			w.fam.pack.pack(b.packedA[q*mr*b.depth:][:mr*b.depth], b.a.mat, !b.a.trans, panel{b.i + q*mr, mr, b.c.rows, b.k, b.depth})
		} else {
			at := (q - b.panelsA) * nr
			w.fam.pack.pack(b.packedB[at*b.depth:][:nr*b.depth], b.b.mat, b.b.trans, panel{b.j + at, nr, b.c.cols, b.k, b.depth})
		}
	}
}

// tileTask computes one tile of the block.
func (b *block) tileTask(w *worker, t int) {
	ilo, jlo := t/b.across*b.tileRows, t%b.across*b.tileCols
	ihi, jhi := min(b.m, ilo+b.tileRows), min(b.n, jlo+b.tileCols)
	mr, nr, add := b.mk.mr, b.mk.nr, 0
	if b.add || b.k > 0 {
		add = 1
	}
	for j := jlo; j < jhi; j += nr {
		pb := &b.packedB[j*b.depth]
		for i := ilo; i < ihi; i += mr {
			pa := &b.packedA[i*b.depth]
			to := b.c.p[(b.i+i)*b.c.ld+b.j+j:]
			if i+mr <= ihi && j+nr <= jhi {
				_ = to[(mr-1)*b.c.ld+nr-1] // assembly does not check
				b.mk.run(b.depth, pa, pb, &to[0], b.c.ld, add)
			} else {
				b.edge(w.full[:], pa, pb, to, min(mr, ihi-i), min(nr, jhi-j), add)
			}
		}
	}
}

// edge computes a tile that reaches over c's border, through a full one.
func (b *block) edge(full []float32, pa, pb *float32, to []float32, rows, cols, add int) {
	nr, ld := b.mk.nr, b.c.ld
	if add != 0 { // what lies beyond the border is computed and dropped
		for i := range rows {
			copy(full[i*nr:i*nr+cols], to[i*ld:])
		}
	}
	b.mk.run(b.depth, pa, pb, &full[0], nr, add)
	for i := range rows {
		copy(to[i*ld:i*ld+cols], full[i*nr:])
	}
}
