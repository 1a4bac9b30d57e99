//go:build cuda

package cuda

import "github.com/seed-7b27c88a/shoal/kernels"

// wireArgs is WireArgs of src/wire.cu.
type wireArgs struct {
	x         mat
	code      uint64
	form, pad int32
}

func encodeWire(l *launcher, c *kernels.Cmd) error {
	return l.wire(kEncodeWire, &c.T[1], &c.T[0], c.I[0])
}

func decodeWire(l *launcher, c *kernels.Cmd) error {
	return l.wire(kDecodeWire, &c.T[0], &c.T[1], c.I[0])
}

func (l *launcher) wire(k kernel, x, code *kernels.Tensor, form int32) error {
	*elementwise[wireArgs](l, k, 1, int32(x.Cols), 1) = wireArgs{matOf(x), matOf(code).p, form, 0}
	return nil
}
