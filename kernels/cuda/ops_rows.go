//go:build cuda

package cuda

import "github.com/seed-7b27c88a/shoal/kernels"

type checkRowsArgs struct {
	ids, order     uint64
	idsLd, orderLd int64
	n, limit       int32
	gate, fault    uint64
	op, pad        int32
}

// checkRows launches the check that ids are in [0, limit), and order, if given, in [0, rows of ids). gate is device
// memory of 4 bytes that the op's kernels look at.
func (l *launcher) checkRows(op kernels.Op, ids, order *kernels.Tensor, limit int, gate uint64) {
	i, o := matOf(ids), matOf(order)
	*launch[checkRowsArgs](l, kCheckRows, 1, 1024, 0) = checkRowsArgs{i.p, o.p, i.ld, o.ld, i.rows, int32(limit), gate,
		l.dev.fault.address(), int32(op), 0}
}

type moveRowsArgs struct {
	dst, src     mat
	ids          uint64
	idsLd        int64
	gate         uint64
	scatter, pad int32
}

func copyRows(l *launcher, c *kernels.Cmd) error { return l.moveRows(c, &c.T[0], 1) }

func gatherRows(l *launcher, c *kernels.Cmd) error { return l.moveRows(c, &c.T[1], 0) }

func (l *launcher) moveRows(c *kernels.Cmd, table *kernels.Tensor, scatter int32) error {
	gate, err := l.scratch(4)
	if err != nil {
		return err
	}
	dst, src, ids := matOf(&c.T[0]), matOf(&c.T[1]), matOf(&c.T[2])
	l.checkRows(c.Op, &c.T[2], &kernels.Tensor{}, table.Rows, gate)
	*elementwise[moveRowsArgs](l, kMoveRows, ids.rows, dst.cols, 0) = moveRowsArgs{dst, src, ids.p, ids.ld, gate, scatter, 0}
	return nil
}
