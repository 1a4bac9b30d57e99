package cpu

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// span is a run of elements of one row of equally shaped matrices; with packed matrices the whole is one row.
type span struct {
	row, lo, n int
	flat       bool
}

// of is the span's part of m.
func (s span) of(m mat[float32]) []float32 { return m.p[s.at(m.ld):][:s.n] }

// at is where the span starts in a matrix with rows ld apart.
func (s span) at(ld int) int {
	if s.flat {
		return s.lo
	}
	return s.row*ld + s.lo
}

// grain is how many elements make a task of an element-wise op: a few microseconds, a multiple of all lane counts.
const grain = 1 << 14

// call is the command at work, for the tasks of its op: they are functions without variables of their own, so that ops
// leave no garbage. A device has one call and runs one command at a time.
type call struct {
	cmd  *kernels.Cmd
	pool *pool
	t    [16]matrix       // the F32 and BF16 operands, by their place in the command
	k    *kernel          // of an element-wise op
	on   [maxOperands]int // and the places of its operands
	flat bool             // the operands of an element-wise op are packed

	n, cols, step int // rows or elements or columns, elements of a row, and what a task takes of n
	row           func(x *call, w *worker, i int)
	span          func(x *call, w *worker, s span)
	strip         func(x *call, w *worker, lo, hi int)
	part          func(x *call, lo, hi int)
	each          func(add bool, out, a, b []float32)

	rowTask, spanTask, stripTask func(*worker, int) // bound once

	scales  quantized // of a product's weights
	turns   []*turns  // of rotations, the latest last
	turning *turns    // the one in use
	from    int       // its first position that is not filled in
	attn    attnBack
	head    lmHead
	hyper   int // place of an update's numbers
	total   int // elements of an operation on blocks
	dyn     dynamics
	factors factors

	together []kernels.Cmd // sums of squares that are taken together
	squares  []float64     // what they are
	rate     float32       // of an Adafactor step
}

func newCall(p *pool) *call {
	x := &call{pool: p}
	x.rowTask, x.spanTask, x.stripTask = x.rowsOf, x.spanOf, x.stripOf
	return x
}

// start views the operands of a command.
func (x *call) start(c *kernels.Cmd) {
	x.cmd = c
	for i := range c.T {
		x.t[i] = matrix{}
		if t := &c.T[i]; t.Buf != nil && (t.Type == dtype.F32 || t.Type == dtype.BF16) {
			x.t[i] = matrixOf(*t)
		}
	}
}

// has reports whether an optional operand is given.
func (x *call) has(place int) bool { return !x.cmd.T[place].None() }

// adds reports whether the mode at a place of the command's integers is Add.
func (x *call) adds(place int) bool { return kernels.Mode(x.cmd.I[place]) == kernels.Add }

// rows runs a task for each of n rows, several rows to a worker's turn.
func (x *call) rows(n, cols int, row func(x *call, w *worker, i int)) {
	x.n, x.step, x.row = n, max(1, grain/max(cols, 1)), row
	x.pool.each(parts(n, x.step), x.rowTask)
}

// tasks runs n tasks, each a worker's turn.
func (x *call) tasks(n int, task func(x *call, w *worker, i int)) { x.rows(n, grain, task) }

func (x *call) rowsOf(w *worker, t int) {
	for i := t * x.step; i < min(x.n, (t+1)*x.step); i++ {
		x.row(x, w, i)
	}
}

// spans runs a task over all elements of matrices of one shape: over one flat row if all are packed, else over each row.
func (x *call) spans(rows, cols int, flat bool, task func(x *call, w *worker, s span)) {
	x.n, x.cols, x.step, x.flat, x.span = rows, cols, max(1, grain/max(cols, 1)), flat, task
	if flat {
		x.n, x.step = rows*cols, grain
	}
	if rows*cols > 0 {
		x.pool.each(parts(x.n, x.step), x.spanTask)
	}
}

func (x *call) spanOf(w *worker, t int) {
	lo := t * x.step
	hi := min(x.n, lo+x.step)
	if x.flat {
		x.span(x, w, span{lo: lo, n: hi - lo, flat: true})
		return
	}
	for i := lo; i < hi; i++ {
		x.span(x, w, span{row: i, n: x.cols})
	}
}

// strips runs a task for ranges [lo, hi) of columns: for sums over rows, which must not be split.
func (x *call) strips(cols int, task func(x *call, w *worker, lo, hi int)) {
	x.n, x.step, x.strip = cols, 64, task
	x.pool.each(parts(cols, x.step), x.stripTask)
}

func (x *call) stripOf(w *worker, t int) {
	lo := t * x.step
	x.strip(x, w, lo, min(x.n, lo+x.step))
}

// elementwise applies a kernel to operands, all of one shape, by their places in the command. Scalars are those given.
func (x *call) elementwise(k *kernel, places ...int) {
	x.k = k
	first, flat := &x.t[places[0]], true
	for i := range x.on {
		x.on[i] = -1
	}
	for i, p := range places {
		x.on[i] = p
		flat = flat && x.t[p].packed()
	}
	x.spans(first.rows, first.cols, flat, applySpan)
}

func applySpan(x *call, w *worker, s span) {
	w.set(x.cmd.F[:]...)
	n := 0
	for ; n < len(x.on) && x.on[n] >= 0; n++ {
		m := &x.t[x.on[n]]
		w.rows[n] = w.open(m, x.on[n], s.at(m.ld), s.n)
	}
	w.apply(x.k, s.n, w.rows[:n]...)
	for i := range x.k.outs {
		m := &x.t[x.on[i]]
		w.close(m, s.at(m.ld), w.rows[i])
	}
}

// open gives n elements of a matrix from the at'th of its memory on as float32: themselves, or a copy in the worker's
// memory for an operand's place.
func (w *worker) open(m *matrix, place, at, n int) []float32 {
	if m.half == nil {
		return m.p[at : at+n]
	}
	buf := w.scratch(scratchWide+place, n)
	w.widen(buf, m.half[at:at+n])
	return buf
}

// close stores what was written to an opened output.
func (w *worker) close(m *matrix, at int, row []float32) {
	if m.half != nil {
		w.narrow(m.half[at:at+len(row)], row)
	}
}

// get is columns [lo, hi) of row i of an operand, opened.
func (x *call) get(w *worker, place, i, lo, hi int) []float32 {
	m := &x.t[place]
	return w.open(m, place, i*m.ld+lo, hi-lo)
}

// rowOf is row i of an operand, opened.
func (x *call) rowOf(w *worker, place, i int) []float32 {
	return x.get(w, place, i, 0, x.t[place].cols)
}

// put stores row i of an output.
func (x *call) put(w *worker, place, i int, row []float32) {
	m := &x.t[place]
	w.close(m, i*m.ld, row)
}
