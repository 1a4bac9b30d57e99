//go:build cuda

package cuda

import "github.com/seed-7b27c88a/shoal/kernels"

// What columnParts of src/sums.cu sums over rows.
const (
	sumX int32 = iota
	sumRMS
	sumLayer
)

type columnArgs struct {
	x, dy, stat mat
	parts       uint64
	kind, step  int32
}

type foldArgs struct {
	parts, dst           uint64
	cols, rows, add, pad int32
}

// partRows is how many rows a partial sum has.
const partRows = 64

// columns sets dst (1, cols), or adds to it, the sums of columns. It does nothing without dst.
func (l *launcher) columns(kind int32, dst *kernels.Tensor, x, dy, stat mat, add bool) error {
	if dst.None() {
		return nil
	}
	parts := blocks(int(x.rows), partRows)
	at, err := l.scratch(4 * parts * int(x.cols))
	if err != nil {
		return err
	}
	threads := min(128, blocks(int(x.cols), 8*32)*32) // eight columns each
	*launchGrid[columnArgs](l, kColumnParts, [3]uint32{uint32(blocks(int(x.cols), 8*threads)), uint32(parts), 1}, threads, 0) = columnArgs{x, dy, stat, at, kind, partRows}
	f := foldArgs{parts: at, dst: matOf(dst).p, cols: x.cols, rows: int32(parts)}
	if add {
		f.add = 1
	}
	*launch[foldArgs](l, kColumnFold, blocks(int(x.cols), 32), 256, 0) = f
	return nil
}

func sumRows(l *launcher, c *kernels.Cmd) error {
	return l.columns(sumX, &c.T[0], matOf(&c.T[1]), mat{}, mat{}, kernels.Mode(c.I[0]) == kernels.Add)
}

type squares struct {
	p          uint64
	ld         int64
	rows, cols int32
}

// maxSquares is how many tensors one launch takes.
const maxSquares = 160

type squaresArgs struct {
	x     [maxSquares]squares
	parts uint64
}

type squaresFoldArgs struct {
	parts, dst uint64
	n, add     int32
}

func sumSq(l *launcher, c *kernels.Cmd) error {
	one := [1]kernels.Cmd{*c}
	return l.sumSquares(one[:])
}

// sumsOfSquares is how many of the first commands add sums of squares to one number. They are launched together: a sum is
// a chain that only a few threads can work on.
func sumsOfSquares(cmds []kernels.Cmd) int {
	n, dst := 0, &cmds[0].T[0]
	for ; n < min(len(cmds), maxSquares) && cmds[n].Op == kernels.OpSumSq; n++ {
		c := &cmds[n]
		if to := &c.T[0]; to.Buf != dst.Buf || to.Off != dst.Off || c.T[1].Buf == dst.Buf || n > 0 && kernels.Mode(c.I[0]) != kernels.Add {
			break
		}
	}
	return n
}

func (l *launcher) sumSquares(cmds []kernels.Cmd) error {
	at, err := l.scratch(8 * maxSquares)
	if err != nil {
		return err
	}
	a := launch[squaresArgs](l, kSumSquares, len(cmds), 32, 0)
	a.parts = at
	for i := range cmds {
		m := matOf(&cmds[i].T[1])
		a.x[i] = squares{m.p, m.ld, m.rows, m.cols}
	}
	*launch[squaresFoldArgs](l, kSquaresFold, 1, 32, 0) = squaresFoldArgs{at, matOf(&cmds[0].T[0]).p, int32(len(cmds)), cmds[0].I[0]}
	return nil
}

type argMaxArgs struct {
	x     mat
	dst   uint64
	dstLd int64
}

func argMax(l *launcher, c *kernels.Cmd) error {
	x, dst := matOf(&c.T[1]), matOf(&c.T[0])
	*launch[argMaxArgs](l, kArgMax, int(x.rows), 32, 0) = argMaxArgs{x, dst.p, dst.ld}
	return nil
}
