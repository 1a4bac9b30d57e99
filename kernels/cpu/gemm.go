package cpu

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// A product is cut into tiles of c, one task each, and its operands into panels that the microkernel reads in order
// (Goto & van de Geijn 2008, Van Zee & van de Geijn 2015; tasks of one queue take the place of their loops). The longer
// side of c is walked in strips. Results do not depend on any of these sizes: a tile belongs to one task, which walks
// k in order and goes on with the sums that c holds.
const (
	blockK   = 320     // words of k of a microkernel run at most: an (mr, blockK) panel stays in the first-level cache
	tileM    = 144     // rows of a tile at most
	tileN    = 128     // columns of a tile at most: its (blockK, tileN) part of b stays in the second-level cache
	keepMost = 4 << 20 // elements of the shorter side that are packed whole: half of a last-level cache
	keepPart = 1 << 17 // and of one that is larger, at a time: half of a second-level cache
	runMost  = 2 << 20 // elements of the longer side that are packed at a time
	packMost = 1 << 13 // elements that a task packs, about
	perEach  = 3       // tiles for each worker, where c is large enough
	maxTile  = 12 * 32 // the largest mr·nr
)

// product is c (m, n) (+)= op(a) · op(b), with bias added to every row first.
type product struct {
	a, b    operand
	c       matrix
	bias    []float32 // n, or nil
	add     bool
	compute dtype.Type // what operands are rounded to
}

// operand is a matrix read as stored or transposed.
type operand struct {
	matrix
	trans  bool
	frozen bool // never written again
}

// rounds is the type that elements are rounded to for a product of that type; F32: they stay as they are.
func (o *operand) rounds(compute dtype.Type) dtype.Type {
	if compute == dtype.BF16 && o.half != nil {
		return dtype.F32
	}
	return compute
}

// plain is an operand of float32.
func plain(m mat[float32], trans bool) operand { return operand{matrix: matrix{mat: m}, trans: trans} }

func matMul(d *Device, x *call) error {
	c := x.cmd
	b := operand{trans: c.I[1] != 0, frozen: c.T[2].Frozen}
	if c.T[2].Q != nil {
		b.matrix = quantizedOf(&x.scales, c.T[2])
	} else {
		b.matrix = matrixOf(c.T[2])
	}
	p := product{
		c: matrixOf(c.T[0]), a: operand{matrix: matrixOf(c.T[1]), trans: c.I[0] != 0}, b: b,
		add: kernels.Mode(c.I[2]) == kernels.Add, compute: dtype.Type(c.I[3]),
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

// multiply runs the blocks of a product: as many as it takes to bound the memory of packed panels.
func (w *worker) multiply(p product, all *pool) {
	m, n, k := p.c.rows, p.c.cols, p.a.cols
	if p.a.trans {
		k = p.a.rows
	}
	if m == 0 || n == 0 {
		return
	}
	b := &w.block
	b.c, b.bias, b.add, b.total, b.mk = p.c, p.bias, p.add, k, w.fam.choose(n, p.compute == dtype.BF16)
	b.rows = side{o: p.a, stored: !p.a.trans, n: m, unit: b.mk.mr, most: tileM, step: b.mk.step}
	b.cols = side{o: p.b, stored: p.b.trans, n: n, unit: b.mk.nr, most: tileN, step: b.mk.step}
	if b.mk.step == 1 { // else words have the type
		b.rows.round, b.cols.round = p.a.rounds(p.compute), p.b.rounds(p.compute)
	}
	if all != nil && p.b.frozen {
		b.cols.kept = all.kept.get(all, &b.cols, k)
	}
	b.long, b.short = &b.cols, &b.rows
	if m > n {
		b.long, b.short = b.short, b.long
	}
	b.cut(all)
	deep := max(k, 1)
	if b.short.n*k > keepMost && p.c.half == nil { // else sums are rounded once, at their end
		deep = max(1, keepPart/b.short.n/blockK) * blockK * b.mk.step
	}
	for b.k = 0; b.k == 0 || b.k < k; b.k += deep {
		b.depth = min(deep, k-b.k)
		b.words = parts(b.depth, b.mk.step)
		run := max(1, runMost/(max(b.words, 1)*b.long.tile)) * b.long.tile
		for b.lo = 0; b.lo < b.long.n; b.lo += run {
			b.hi = min(b.long.n, b.lo+run)
			b.run(w, all)
		}
	}
}

// choose is the microkernel for a product with n columns: the slim one where the other would compute many that do not
// exist.
func (f *family) choose(n int, half bool) *microkernel {
	wide, slim := &f.gemm, &f.slim[0]
	if half && f.pairs.run != nil {
		wide, slim = &f.pairs, &f.slimPairs
	}
	if 8*parts(n, slim.nr)*slim.nr < 7*parts(n, wide.nr)*wide.nr {
		return slim
	}
	return wide
}
