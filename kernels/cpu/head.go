package cpu

import (
	"fmt"
	"math"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// Logits are made for chunkTokens tokens at a time, or fewer so that a chunk stays below chunkFloats, and below its share
// of the memory. With 512 tokens the three products of a vocabulary of 32000 take 4 % less than with 256, and twice as
// many save 4 % more: weights are packed for each chunk.
const (
	chunkTokens = 1024
	chunkFloats = 1 << 25 // 128 MiB
	chunkShare  = 64      // 128 MiB of 8 GiB
)

// lmHead is one Head command, unpacked.
type lmHead struct {
	h, w, dh                 matrix
	bias                     mat[float32]
	target                   mat[int32]
	logp, lse, entropy, coef mat[float32]
	best                     mat[int32]
	dw, dbias                mat[float32]
	cap, scale               float32
	addH, addW, frozen       bool
	compute                  dtype.Type // of products
	has                      [12]bool   // which operands are given, by their place in the command

	z  mat[float32] // logits of the chunk, whose first token is lo
	lo int
}

const (
	headBias    = 2
	headLogP    = 4
	headLSE     = 5
	headEntropy = 6
	headBest    = 7
	headCoef    = 8
	headDH      = 9
	headDW      = 10
	headDBias   = 11
)

func head(d *Device, x *call) error {
	c := x.cmd
	t := &c.T
	o := &x.head
	*o = lmHead{h: matrixOf(t[0]), w: matrixOf(t[1]), bias: x.t[headBias].mat, target: i32(t[3]), logp: x.t[headLogP].mat, lse: x.t[headLSE].mat,
		entropy: x.t[headEntropy].mat, best: i32(t[headBest]), coef: x.t[headCoef].mat, dh: matrixOf(t[headDH]), dw: x.t[headDW].mat,
		dbias: x.t[headDBias].mat, cap: c.F[0], scale: c.F[1], addH: x.adds(0), compute: dtype.Type(c.I[1]),
		frozen: t[1].Frozen}
	for i := range o.has {
		o.has[i] = x.has(i)
	}
	if err := o.check(); err != nil {
		return err
	}
	o.addW = c.I[2] == 0
	step := max(16, min(chunkTokens, d.mem.chunkFloats()/max(o.w.rows, 1)))
	step = parts(o.h.rows, max(1, parts(o.h.rows, step))) // chunks of one size
	for lo := 0; lo < o.h.rows; lo += step {
		o.chunk(d, lo, min(o.h.rows, lo+step))
	}
	return nil
}

// chunkFloats is how many logits there may be at a time.
func (m *memory) chunkFloats() int {
	if m.limit == 0 {
		return chunkFloats
	}
	return int(min(chunkFloats, m.limit/4/chunkShare))
}

func (o *lmHead) check() error {
	for i := range o.target.rows {
		if t := o.target.row(i)[0]; t < -1 || int(t) >= o.w.rows {
			return fmt.Errorf("target %d of token %d is not among %d words", t, i, o.w.rows)
		}
	}
	return nil
}

// chunk does both phases for tokens [lo, hi).
func (o *lmHead) chunk(d *Device, lo, hi int) {
	v := o.w.rows
	z := mat[float32]{d.pool.logits((hi - lo) * v), hi - lo, v, v}
	hidden := o.h.window(lo, hi, 0, o.h.cols)
	p := product{c: matrix{mat: z}, a: operand{matrix: hidden}, b: operand{matrix: o.w, trans: true, frozen: o.frozen}, compute: o.compute}
	if o.has[headBias] {
		p.bias = o.bias.row(0)
	}
	d.gemm(p)
	o.z, o.lo = z, lo
	d.call.rows(hi-lo, v, func(x *call, w *worker, i int) { x.head.token(w, x.head.lo+i, x.head.z.row(i)) })
	if !o.has[headCoef] {
		return
	}
	if o.has[headDH] {
		d.gemm(product{c: o.dh.window(lo, hi, 0, o.dh.cols), a: plain(z, false), b: operand{matrix: o.w, frozen: o.frozen}, add: o.addH, compute: o.compute})
	}
	if o.has[headDW] {
		d.gemm(product{c: matrix{mat: o.dw}, a: plain(z, true), b: operand{matrix: hidden}, add: o.addW, compute: o.compute})
		o.addW = true
	}
	if o.has[headDBias] {
		d.call.strips(v, func(x *call, w *worker, clo, chi int) {
			sum := x.head.dbias.row(0)[clo:chi]
			for i := range x.head.z.rows {
				w.apply(&w.fam.add, chi-clo, sum, sum, x.head.z.row(i)[clo:chi])
			}
		})
	}
}

// token turns one row of raw logits into the numbers that are asked for, and then into their gradient.
func (o *lmHead) token(w *worker, i int, z []float32) {
	if o.scale != 1 {
		w.set(o.scale)
		w.apply(&w.fam.scale, len(z), z, z)
	}
	if o.cap > 0 {
		capRow(z, o.cap)
	}
	if o.has[headBest] {
		o.best.row(i)[0] = int32(largest(z))
	}
	target := int(o.target.row(i)[0])
	e, sum, lse := o.normalizer(w, i, z)
	if o.has[headLogP] {
		o.logp.row(i)[0] = 0
		if target >= 0 {
			o.logp.row(i)[0] = z[target] - lse
		}
	}
	if o.has[headCoef] {
		o.gradient(w, z, e, sum, lse, target, o.coef.row(i)[0])
	}
}

// normalizer is the row's log-sum-exp, given or computed; with it the entropy lse - Σ p·z. Where it is computed, p is
// e/sum.
func (o *lmHead) normalizer(w *worker, i int, z []float32) (e []float32, sum, lse float32) {
	if given := o.has[headCoef] && !o.has[headLogP]; given && !o.has[headEntropy] {
		return nil, 0, o.lse.row(i)[0]
	}
	e = w.scratch(scratchRow, len(z))
	m := w.max(z)
	w.set(m)
	sum = w.reduce(&w.fam.expSum, len(z), e, z)
	lse = m + float32(math.Log(float64(sum)))
	if o.has[headLSE] {
		o.lse.row(i)[0] = lse
	}
	if o.has[headEntropy] {
		o.entropy.row(i)[0] = lse - w.dot(e, z)/sum
	}
	return e, sum, lse
}

// gradient replaces logits by d(loss)/d(raw logit) = coef·(1[target] - p), times the slopes of softcap and scale.
func (o *lmHead) gradient(w *worker, z, e []float32, sum, lse float32, target int, coef float32) {
	if target < 0 || coef == 0 {
		clear(z)
		return
	}
	g := z
	if o.cap > 0 {
		g = w.scratch(scratchRow, len(z)) // e itself, where there is one
	}
	if e == nil {
		w.set(lse)
		w.apply(&w.fam.expSum, len(z), g, z)
		e, sum = g, 1
	}
	w.set(-coef / sum)
	w.apply(&w.fam.scale, len(g), g, e)
	g[target] += coef
	if o.cap > 0 {
		for j, s := range z {
			y := s / o.cap
			z[j] = g[j] * (1 - float32(y*y))
		}
	}
	if o.scale != 1 {
		w.set(o.scale)
		w.apply(&w.fam.scale, len(z), z, z)
	}
}
