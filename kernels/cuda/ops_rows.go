//go:build cuda

package cuda

import "github.com/seed-7b27c88a/shoal/kernels"

type checkRowsArgs struct {
	ids, order     uint64
	idsLd, orderLd int64
	n, limit       int32
	gate, fault    uint64
	op, low        int32
}

// checkRows launches the check that ids are in [low, limit), and order, if given, in [0, rows of ids). gate is device
// memory of 4 bytes that the op's kernels look at.
func (l *launcher) checkRows(op kernels.Op, ids, order *kernels.Tensor, low, limit int, gate uint64) {
	i, o := matOf(ids), matOf(order)
	*launch[checkRowsArgs](l, kCheckRows, 1, 1024, 0) = checkRowsArgs{i.p, o.p, i.ld, o.ld, i.rows, int32(limit), gate,
		l.dev.fault.address(), int32(op), int32(low)}
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
	l.checkRows(c.Op, &c.T[2], &kernels.Tensor{}, 0, table.Rows, gate)
	*elementwise[moveRowsArgs](l, kMoveRows, ids.rows, dst.cols, 0) = moveRowsArgs{dst, src, ids.p, ids.ld, gate, scatter, 0}
	return nil
}

type scatterArgs struct {
	table, dy      mat
	ids, order     uint64
	idsLd, orderLd int64
	gate           uint64
	n, pad         int32
}

func scatterAddRows(l *launcher, c *kernels.Cmd) error {
	gate, err := l.scratch(4)
	if err != nil {
		return err
	}
	table, dy, ids, order := matOf(&c.T[0]), matOf(&c.T[1]), matOf(&c.T[2]), matOf(&c.T[3])
	l.checkRows(c.Op, &c.T[2], &c.T[3], 0, c.T[0].Rows, gate)
	wide := min(8, blocks(int(dy.cols), 128))
	*launchGrid[scatterArgs](l, kScatterAdd, [3]uint32{uint32(ids.rows), uint32(wide), 1}, 128, 0) = scatterArgs{table, dy, ids.p, order.p, ids.ld,
		order.ld, gate, ids.rows, 0}
	return nil
}
