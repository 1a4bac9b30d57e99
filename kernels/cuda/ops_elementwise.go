//go:build cuda

package cuda

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
)

// mapArgs is MapArgs of src/elementwise.cu: operands in the order of the command, outputs first.
type mapArgs struct {
	x              [5]mat
	f              float32
	flat, add, pad int32
}

// mapped is an operation whose kernel takes mapArgs with the first n operands of the command. mode is the place of its
// mode in the command's integers, or noMode.
func mapped(k kernel, n, mode int) func(l *launcher, c *kernels.Cmd) error {
	return func(l *launcher, c *kernels.Cmd) error {
		a := mapArgs{f: c.F[0], flat: 1}
		for i := range n {
			a.x[i] = matOf(&c.T[i])
			a.flat &= a.x[i].flat
		}
		if mode >= 0 {
			a.add = c.I[mode]
		}
		*elementwise[mapArgs](l, k, a.x[0].rows, a.x[0].cols, a.flat) = a
		return nil
	}
}

const noMode = -1

type mulArgs struct {
	dst, a, b                 mat
	flat, add, perColumn, pad int32
}

func mul(l *launcher, c *kernels.Cmd) error {
	dst, a, b := matOf(&c.T[0]), matOf(&c.T[1]), matOf(&c.T[2])
	flat, perColumn := dst.flat&a.flat&b.flat, int32(0)
	if b.rows == 1 && a.rows != 1 {
		flat, perColumn = 0, 1
	}
	*elementwise[mulArgs](l, kMul, dst.rows, dst.cols, flat) = mulArgs{dst, a, b, flat, c.I[0], perColumn, 0}
	return nil
}

type dropArgs struct {
	y, x        mat
	step, key   uint64
	keyLd       int64
	seed        uint64
	site, limit uint32
	keep        float32
	add         int32
}

func drop(l *launcher, c *kernels.Cmd) error {
	y, x, step, key := matOf(&c.T[0]), matOf(&c.T[1]), matOf(&c.T[2]), matOf(&c.T[3])
	*elementwise[dropArgs](l, kDrop, x.rows, x.cols, 0) = dropArgs{y, x, step.p, key.p, key.ld,
		uint64(uint32(c.I[1])) | uint64(uint32(c.I[2]))<<32, uint32(c.I[3]), uint32(math.RoundToEven(float64(c.F[0]) * (1 << 24))),
		1 / (1 - c.F[0]), c.I[0]}
	return nil
}

type ropeArgs struct {
	y, x                      mat
	pos                       uint64
	posLd                     int64
	freq                      uint64
	heads, half, inverse, add int32
	scale                     float32
	pad                       int32
}

func rope(l *launcher, c *kernels.Cmd) error {
	y, x, pos, freq := matOf(&c.T[0]), matOf(&c.T[1]), matOf(&c.T[2]), matOf(&c.T[3])
	half := c.I[1] / 2
	if half == 0 {
		return nil
	}
	*launch[ropeArgs](l, kRope, blocks(int(x.rows)*int(half), elementThreads), elementThreads, 0) = ropeArgs{y, x, pos.p, pos.ld, freq.p,
		c.I[0], half, c.I[2], c.I[3], c.F[0], 0}
	return nil
}
