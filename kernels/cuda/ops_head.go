//go:build cuda

package cuda

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// headArgs is HeadArgs of src/head.cu.
type headArgs struct {
	z, target, gate          uint64
	ld, targetLd             int64
	logp, lse, entropy, coef mat
	best                     uint64
	bestLd                   int64
	first, vocab             int32
	cap, scale               float32
	given, half              int32
}

// Logits are made for chunkTokens tokens at a time, or fewer so that a chunk stays below chunkFloats.
const (
	chunkTokens = 4096
	chunkFloats = 1 << 27 // 512 MiB
	chunkShare  = 32      // at most so small a part of the memory
)

// Places of the operands of OpHead.
const (
	headH = iota
	headW
	headBias
	headTarget
	headLogP
	headLSE
	headEntropy
	headBest
	headCoef
	headDH
	headDW
	headDBias
)

// head makes logits a chunk of tokens at a time, turns them into what is asked for, and their gradients into those of
// hidden states and weights.
func head(l *launcher, c *kernels.Cmd) error {
	t := &c.T
	n, vocab := t[headH].Rows, t[headW].Rows
	if n == 0 {
		return nil
	}
	step := min(n, max(16, min(chunkTokens, int(min(chunkFloats, l.dev.limit/4/chunkShare))/max(vocab, 1))))
	step = blocks(n, blocks(n, step)) // chunks of one size
	ld := blocks(vocab, 64) * 64      // so that products take rows as the tensor cores want them
	at, err := l.scratch(unit + 4*step*ld)
	if err != nil {
		return err
	}
	l.checkRows(c.Op, &t[headTarget], &kernels.Tensor{}, -1, vocab, at)
	a := headArgs{z: at + unit, ld: int64(ld), gate: at, target: matOf(&t[headTarget]).p, targetLd: int64(t[headTarget].Ld), logp: matOf(&t[headLogP]), lse: matOf(&t[headLSE]),
		entropy: matOf(&t[headEntropy]), coef: matOf(&t[headCoef]), best: matOf(&t[headBest]).p, bestLd: int64(t[headBest].Ld), vocab: int32(vocab),
		cap: c.F[0], scale: c.F[1]}
	if a.coef.p != 0 && a.logp.p == 0 && a.entropy.p == 0 {
		a.given = 1
	}
	if dtype.Type(c.I[1]) == dtype.BF16 && t[headDBias].None() {
		a.half = 1
	}
	l.logits = kernels.Buffer{Addr: uintptr(a.z), Size: 4 * step * ld}
	addW := c.I[2] == 0
	for lo := 0; lo < n; lo += step {
		hi := min(n, lo+step)
		if err := l.headChunk(c, &a, lo, hi, addW); err != nil {
			return err
		}
		addW = true
	}
	return nil
}

func (l *launcher) headChunk(c *kernels.Cmd, a *headArgs, lo, hi int, addW bool) error {
	t, vocab := &c.T, c.T[headW].Rows
	h := t[headH].SliceRows(lo, hi)
	z := kernels.Tensor{Buf: &l.logits, Rows: hi - lo, Cols: vocab, Ld: int(a.ld)}
	compute := c.I[1]
	if err := l.multiply(z, h, t[headW], t[headBias], false, true, false, compute); err != nil {
		return err
	}
	a.first = int32(lo)
	*launch[headArgs](l, kHeadRow, hi-lo, 256, 0) = *a
	if a.coef.p == 0 {
		return nil
	}
	if a.half != 0 { // what products would round anyway
		z.Type, z.Ld = dtype.BF16, 2*z.Ld
	}
	if !t[headDH].None() {
		if err := l.multiply(t[headDH].SliceRows(lo, hi), z, t[headW], kernels.Tensor{}, false, false, c.I[0] != 0, compute); err != nil {
			return err
		}
	}
	if !t[headDW].None() {
		if err := l.multiply(t[headDW], z, h, kernels.Tensor{}, true, false, addW, compute); err != nil {
			return err
		}
	}
	if t[headDBias].None() {
		return nil
	}
	return l.nested(func() error { return l.columns(sumX, &t[headDBias], matOf(&z), mat{}, mat{}, true) })
}

// multiply launches a product inside of another operation.
func (l *launcher) multiply(out, a, b, bias kernels.Tensor, ta, tb, add bool, compute int32) error {
	l.inner = kernels.Cmd{Op: kernels.OpMatMul, T: [16]kernels.Tensor{out, a, b, bias}, I: [12]int32{bit(ta), bit(tb), bit(add), compute}}
	return l.nested(func() error { return l.one(&l.inner) })
}

func bit(b bool) int32 {
	if b {
		return 1
	}
	return 0
}
