package cpu

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

// spread runs an element-wise task over all elements: over one flat row if all the matrices are packed, else row by
// row with several rows to a task.
func (d *Device) spread(rows, cols int, task func(w *worker, s span), ms ...mat[float32]) {
	flat := true
	for _, m := range ms {
		flat = flat && m.packed()
	}
	d.spans(rows, cols, flat, task)
}

// spans is spread where the caller knows whether all matrices are packed.
func (d *Device) spans(rows, cols int, flat bool, task func(w *worker, s span)) {
	n := rows * cols
	if n == 0 {
		return
	}
	if flat {
		d.pool.each((n+grain-1)/grain, func(w *worker, i int) {
			lo := i * grain
			task(w, span{lo: lo, n: min(grain, n-lo), flat: true})
		})
		return
	}
	d.rows(rows, cols, func(w *worker, i int) { task(w, span{row: i, n: cols}) })
}

// rows runs task for every row, several rows to a worker's turn.
func (d *Device) rows(rows, cols int, task func(w *worker, i int)) {
	step := max(1, grain/max(cols, 1))
	d.pool.each((rows+step-1)/step, func(w *worker, t int) {
		for i := t * step; i < min(rows, (t+1)*step); i++ {
			task(w, i)
		}
	})
}

// cols runs task for ranges [lo, hi) of columns: for sums over rows, which must not be split. width columns or a
// multiple of it go to a task.
func (d *Device) cols(cols int, task func(w *worker, lo, hi int)) {
	const width = 64
	d.pool.each((cols+width-1)/width, func(w *worker, t int) {
		task(w, t*width, min(cols, (t+1)*width))
	})
}
