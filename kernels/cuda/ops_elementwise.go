//go:build cuda

package cuda

import "github.com/seed-7b27c88a/shoal/kernels"

type fillArgs struct {
	x    mat
	v    float32
	flat int32
}

func fill(l *launcher, c *kernels.Cmd) error {
	x := matOf(&c.T[0])
	*elementwise[fillArgs](l, kFill, x.rows, x.cols, x.flat) = fillArgs{x, c.F[0], x.flat}
	return nil
}

type addArgs struct {
	dst, a, b mat
	flat, pad int32
}

func add(l *launcher, c *kernels.Cmd) error {
	dst, a, b := matOf(&c.T[0]), matOf(&c.T[1]), matOf(&c.T[2])
	flat := allFlat(&dst, &a, &b)
	*elementwise[addArgs](l, kAdd, dst.rows, dst.cols, flat) = addArgs{dst, a, b, flat, 0}
	return nil
}

type mulArgs struct {
	dst, a, b                 mat
	flat, add, perColumn, pad int32
}

func mul(l *launcher, c *kernels.Cmd) error {
	dst, a, b := matOf(&c.T[0]), matOf(&c.T[1]), matOf(&c.T[2])
	flat, perColumn := allFlat(&dst, &a, &b), int32(0)
	if b.rows == 1 && a.rows != 1 {
		flat, perColumn = 0, 1
	}
	*elementwise[mulArgs](l, kMul, dst.rows, dst.cols, flat) = mulArgs{dst, a, b, flat, c.I[0], perColumn, 0}
	return nil
}

type scaleArgs struct {
	dst, src       mat
	f              float32
	flat, add, pad int32
}

func scale(l *launcher, c *kernels.Cmd) error {
	dst, src := matOf(&c.T[0]), matOf(&c.T[1])
	flat := allFlat(&dst, &src)
	*elementwise[scaleArgs](l, kScale, dst.rows, dst.cols, flat) = scaleArgs{dst, src, c.F[0], flat, c.I[0], 0}
	return nil
}
