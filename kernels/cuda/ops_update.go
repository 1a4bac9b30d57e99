//go:build cuda

package cuda

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// updateArgs is UpdateArgs of src/update.cu.
type updateArgs struct {
	w, g, m, v mat
	h          uint64
	flat, pad  int32
}

// updated is an update with n operands before its hyper row.
func updated(k kernel, n int) func(l *launcher, c *kernels.Cmd) error {
	return func(l *launcher, c *kernels.Cmd) error {
		l.update(k, &c.T, n)
		return nil
	}
}

func (l *launcher) update(k kernel, t *[16]kernels.Tensor, n int) {
	x, flat := [4]mat{}, int32(1)
	for i := range n {
		if x[i] = matOf(&t[i]); x[i].p != 0 {
			flat &= x[i].flat
		}
	}
	*elementwise[updateArgs](l, k, x[0].rows, x[0].cols, flat) = updateArgs{x[0], x[1], x[2], x[3], matOf(&t[n]).p, flat, 0}
}

func sgd(l *launcher, c *kernels.Cmd) error {
	k := kMomentum
	if c.T[2].None() {
		k = kSGD
	}
	l.update(k, &c.T, 3)
	return nil
}

type factorArgs struct {
	w, g, r, c                  mat
	h, row, col, squares, rates uint64
}

func adafactor(l *launcher, c *kernels.Cmd) error {
	a := factorArgs{w: matOf(&c.T[0]), g: matOf(&c.T[1]), r: matOf(&c.T[2]), c: matOf(&c.T[3]), h: matOf(&c.T[4]).p}
	rows, cols := int(a.w.rows), int(a.w.cols)
	if rows*cols == 0 {
		return nil
	}
	row, col := rounded(4*rows), rounded(4*cols)
	at, err := l.scratch(row + col + rounded(8*rows) + unit)
	if err != nil {
		return err
	}
	a.row, a.col, a.squares = at, at+uint64(row), at+uint64(row+col)
	a.rates = a.squares + uint64(rounded(8*rows))
	if a.c.p != 0 {
		*launch[factorArgs](l, kFactorRows, rows, 32, 0) = a
		*launch[factorArgs](l, kFactorColumns, blocks(cols, 128), 128, 0) = a
		*launch[factorArgs](l, kFactorMean, 1, 256, 0) = a
	}
	*launch[factorArgs](l, kFactorSquares, rows, 32, 0) = a
	*launch[factorArgs](l, kFactorRate, 1, 32, 0) = a
	*elementwise[factorArgs](l, kFactorStep, a.w.rows, a.w.cols, 0) = a
	return nil
}

type codeArgs struct {
	code, scale   [2]uint64
	x, g, h       uint64
	values, upper [2]uint64
	n, signed     int32
}

// code starts the arguments of an operation on n elements in the dynamic 8 bit form.
func (l *launcher) code(k kernel, n int) *codeArgs {
	a := launch[codeArgs](l, k, blocks(n, dtype.DynamicBlock), dtype.DynamicBlock, 0)
	*a = codeArgs{n: int32(n)}
	for i := range a.values {
		a.values[i] = l.dev.tables + uint64(i*2048)
		a.upper[i] = a.values[i] + 1024
	}
	return a
}

func encode8(l *launcher, c *kernels.Cmd) error {
	a := l.code(kEncode8, c.T[2].Cols)
	a.code[0], a.scale[0], a.x, a.signed = matOf(&c.T[0]).p, matOf(&c.T[1]).p, matOf(&c.T[2]).p, c.I[0]
	return nil
}

func decode8(l *launcher, c *kernels.Cmd) error {
	a := l.code(kDecode8, c.T[0].Cols)
	a.x, a.code[0], a.scale[0], a.signed = matOf(&c.T[0]).p, matOf(&c.T[1]).p, matOf(&c.T[2]).p, c.I[0]
	return nil
}

func adamW8(l *launcher, c *kernels.Cmd) error {
	a := l.code(kAdamW8, c.T[0].Cols)
	a.x, a.g, a.h = matOf(&c.T[0]).p, matOf(&c.T[1]).p, matOf(&c.T[6]).p
	a.code = [2]uint64{matOf(&c.T[2]).p, matOf(&c.T[3]).p}
	a.scale = [2]uint64{matOf(&c.T[4]).p, matOf(&c.T[5]).p}
	return nil
}

// dynamicTables are what codes stand for and where they end, with signs and without, as kernels find them.
func dynamicTables() (out []float32) {
	for _, signed := range []bool{true, false} {
		d := dtype.NewDynamic(signed)
		out = append(append(out, d.Values[:]...), d.Upper[:]...)
	}
	return out
}
