package kerneltest

import (
	"context"
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// testNaN: a NaN or an infinity in a row makes that row NaN where its numbers depend on each other, and leaves the
// others alone.
func testNaN(b *bench) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		b.badForward(bad)
		b.badBackward(bad)
		b.badSums(bad)
		b.done()
	}
}

const badRow, badRows, badCols = 1, 3, 21

// spoilt is a random matrix with one number that is bad.
func (b *bench) spoilt(bad float64) mat {
	x := b.rand(badRows, badCols)
	x.set(badRow, 17, bad)
	return x
}

// spoils checks that the row that holds the bad number has no finite one left, or at least one that is none, and that
// the others are finite.
func (b *bench) spoils(name string, got mat, whole bool) {
	b.Helper()
	for i := range got.rows {
		finite := 0
		for j := range got.cols {
			if v := got.at(i, j); !math.IsNaN(v) && !math.IsInf(v, 0) {
				finite++
			}
		}
		switch {
		case i != badRow && finite < got.cols:
			b.Errorf("%s: row %d is spoilt: %v", name, i, got.row(i))
		case i == badRow && (whole && finite > 0 || finite == got.cols):
			b.Errorf("%s: row %d hides what it was made of: %v", name, i, got.row(i))
		}
	}
}

// alone describes sequences of one token each.
func (b *bench) alone() kernels.AttnSpec {
	return kernels.AttnSpec{Heads: 1, KVHeads: 1, HeadDim: badCols, Scale: 1, Seqs: &kernels.Seqs{N: badRows, Count: badRows,
		QStart: b.ints(1, 0, 1, 2, 3), KStart: b.ints(1, 0, 1, 2), KLen: b.ints(1, 1, 1, 1)}}
}

func (b *bench) badForward(bad float64) {
	tx, w := b.put(b.spoilt(bad), 0), b.put(b.rand(1, badCols), 0)
	y, rstd, stat, lse := b.arena.F32(badRows, badCols), b.arena.F32(badRows, 1), b.arena.F32(badRows, 2), b.arena.F32(badRows, 1)
	b.s.RMSNorm(y, rstd, tx, w, 1e-5, 0)
	b.spoils("rmsnorm", b.get(y), false) // a finite number over an infinite root is zero
	b.s.LayerNorm(y, stat, tx, w, w, 1e-5)
	b.spoils("layernorm", b.get(y), true)
	b.s.GELU(y, tx)
	if !math.IsInf(bad, -1) { // whose gelu may be zero
		b.spoils("gelu", b.get(y), false)
	}
	o := kernels.Head{H: tx, W: b.put(b.rand(4, badCols), 0), Target: b.ints(1, 0, 1, 2), LogP: b.arena.F32(badRows, 1), LSE: lse}
	b.s.Head(o)
	b.spoils("head", b.get(o.LogP), true)
	b.s.Attention(y, lse, tx, tx, tx, b.alone())
	b.spoils("attention", b.get(y), false)
}

func (b *bench) badBackward(bad float64) {
	x, w := b.put(b.rand(badRows, badCols), 0), b.put(b.rand(1, badCols), 0)
	dy, none := b.put(b.spoilt(bad), 0), kernels.Tensor{}
	y, dx, dz := b.arena.F32(badRows, badCols), b.arena.F32(badRows, badCols), b.arena.F32(badRows, badCols)
	rstd, stat, lse := b.arena.F32(badRows, 1), b.arena.F32(badRows, 2), b.arena.F32(badRows, 1)
	b.s.RMSNorm(y, rstd, x, w, 1e-5, 0)
	b.s.RMSNormBack(dx, none, dy, x, w, rstd, 0, kernels.Set)
	b.spoils("rmsnorm back", b.get(dx), true)
	b.s.LayerNorm(y, stat, x, w, w, 1e-5)
	b.s.LayerNormBack(dx, none, none, dy, x, w, stat, kernels.Set)
	b.spoils("layernorm back", b.get(dx), true)
	b.s.SwiGLUBack(dx, dz, dy, x, x, kernels.Set)
	b.spoils("swiglu back, gate", b.get(dx), false)
	b.spoils("swiglu back, up", b.get(dz), false)
	b.s.GELUBack(dx, dy, x, kernels.Set)
	b.spoils("gelu back", b.get(dx), false)
	spec, dv := b.alone(), b.arena.F32(badRows, badCols)
	b.s.Attention(y, lse, x, x, x, spec)
	b.s.AttentionBack(dx, dz, dv, dy, x, x, x, y, lse, spec, kernels.Set)
	b.spoils("attention back, v", b.get(dv), false)
	coef := b.put(mat{badRows, 1, []float64{-1, bad, -1}}, 0)
	o := kernels.Head{H: x, W: b.put(b.rand(4, badCols), 0), Target: b.ints(1, 0, 1, 2), LogP: rstd, Coef: coef, DH: dx}
	b.s.Head(o)
	b.spoils("head back", b.get(dx), true)
}

// badSums: what decides whether a step counts must see a number that is none, wherever it stands.
func (b *bench) badSums(bad float64) {
	x := b.put(b.spoilt(bad), 2)
	sum, got := b.arena.Tensor(dtype.F64, 1, 1), make([]float64, 1)
	b.s.SumSq(sum, x, kernels.Set)
	if err := b.s.DownloadF64(got, sum); err != nil || !math.IsNaN(got[0]) && !math.IsInf(got[0], 1) {
		b.Errorf("sum of squares with %v is %v (%v)", bad, got[0], err)
	}
	y := b.put(b.rand(badRows, badCols), 0)
	b.s.WeightedSum(y, x, 0.5, kernels.Add)
	b.spoils("weighted sum", b.get(y), false)
	b.s.Quotient(y, x, 3)
	b.spoils("quotient", b.get(y), false)
	row := b.arena.F32(1, badCols)
	b.s.SumRows(row, x, kernels.Set)
	for j, v := range b.get(row).v {
		if finite := !math.IsNaN(v) && !math.IsInf(v, 0); finite == (j == 17) {
			b.Errorf("column %d of a sum over rows is %v", j, v)
		}
	}
	w, m, v := b.put(b.rand(badRows, badCols), 0), b.put(zeros(badRows, badCols), 0), b.put(zeros(badRows, badCols), 0)
	h := adamHyper(1, 1e-3, 0.9, 0.999, 1e-8, 0, 1)
	hyper := b.put(mat{1, 9, widen(h[:])}, 0)
	b.s.AdamW(w, x, m, v, hyper)
	b.spoils("adamw", b.get(w), false)
	half, back := b.arena.Tensor(dtype.BF16, badRows, badCols), b.arena.F32(badRows, badCols)
	b.s.Copy(half, x)
	b.s.Copy(back, half)
	b.spoils("bfloat16", b.get(back), false)
	if err := b.s.Sync(context.Background()); err != nil {
		b.Error(err)
	}
}
