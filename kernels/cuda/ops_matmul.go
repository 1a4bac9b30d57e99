//go:build cuda

package cuda

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// operand is Operand of src/gemm.cuh.
type operand struct {
	m           mat
	absmax      uint64
	base, first int64
	block, pad  int32
}

func operandOf(t *kernels.Tensor) operand {
	o := operand{m: matOf(t)}
	if t.Q != nil {
		o.m.p = uint64(t.Buf.Addr)
		o.absmax, o.base, o.first, o.block = matOf(&t.Q.Absmax).p, int64(t.Off), int64(t.Q.First), int32(t.Q.Block)
	}
	return o
}

// productArgs is ProductArgs of src/gemm.cuh.
type productArgs struct {
	a, b              operand
	c                 mat
	bias              uint64
	m, n, k           int32
	ta, tb            int32
	add, compute, pad int32
}

// Sizes of src/gemm.cu.
const (
	tileF32     = 64
	tileHalf    = 128
	sharedBytes = 3 * 2 * 128 * 40 * 2
)

// matMul multiplies with our own kernels.
func matMul(l *launcher, c *kernels.Cmd) error {
	out, x, y := &c.T[0], &c.T[1], &c.T[2]
	a := productArgs{a: operandOf(x), b: operandOf(y), c: matOf(out), bias: matOf(&c.T[3]).p, m: int32(out.Rows), n: int32(out.Cols),
		k: int32(x.Cols), ta: c.I[0], tb: c.I[1], add: c.I[2], compute: c.I[3]}
	if a.ta != 0 {
		a.k = int32(x.Rows)
	}
	k, tile, dynamic := kGemmF32, tileF32, 0
	switch {
	case dtype.Type(a.compute) == dtype.F16:
		k, tile, dynamic = kGemmF16, tileHalf, sharedBytes
	case dtype.Type(a.compute) == dtype.BF16 || x.Type == dtype.BF16 && y.Type == dtype.BF16: // whose products float32 has exactly
		k, tile, dynamic = kGemmBF16, tileHalf, sharedBytes
	}
	*launchGrid[productArgs](l, k, [3]uint32{uint32(blocks(out.Cols, tile)), uint32(blocks(out.Rows, tile)), 1}, 256, dynamic) = a
	return nil
}
