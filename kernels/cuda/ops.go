//go:build cuda

package cuda

import "github.com/seed-7b27c88a/shoal/kernels"

// ops says how each operation is launched.
var ops = [kernels.NumOps]func(l *launcher, c *kernels.Cmd) error{
	kernels.OpFill:  fill,
	kernels.OpAdd:   add,
	kernels.OpMul:   mul,
	kernels.OpScale: scale,

	kernels.OpCopyRows:   copyRows,
	kernels.OpGatherRows: gatherRows,
}
