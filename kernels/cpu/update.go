package cpu

import (
	"math"
	"unsafe"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// update applies a kernel to operands of one shape, by their places in the command, with the scalars at place hyper.
func (x *call) update(k *kernel, hyper int, places ...int) {
	x.k, x.hyper = k, hyper
	flat := true
	for i := range x.on {
		x.on[i] = -1
	}
	for i, p := range places {
		x.on[i] = p
		flat = flat && x.t[p].packed()
	}
	x.spans(x.t[0].rows, x.t[0].cols, flat, func(x *call, w *worker, s span) {
		w.set(x.t[x.hyper].p...)
		n := 0
		for ; n < len(x.on) && x.on[n] >= 0; n++ {
			w.rows[n] = s.of(x.t[x.on[n]].mat)
		}
		w.apply(x.k, s.n, w.rows[:n]...)
	})
}

func lion(d *Device, x *call) error {
	x.update(&d.fam.lion, 3, 0, 2, 1)
	return nil
}

func sgd(d *Device, x *call) error {
	if x.has(2) {
		x.update(&d.fam.momentum, 3, 0, 2, 1)
	} else {
		x.update(&d.fam.sgd, 3, 0, 1)
	}
	return nil
}

func sophia(d *Device, x *call) error {
	x.update(&d.fam.sophia, 4, 0, 2, 3, 1)
	return nil
}

func averageSquares(d *Device, x *call) error {
	x.update(&d.fam.averageSquares, 2, 0, 1)
	return nil
}

// dynamics are the tables of the dynamic 8 bit form, made when they are first needed.
type dynamics struct{ signed, plain *dtype.Dynamic }

func (d dynamics) of(signed bool) *dtype.Dynamic {
	if signed {
		return d.signed
	}
	return d.plain
}

// blocks runs a task for each block of n elements in the dynamic 8 bit form.
func (x *call) blocks(n int, task func(x *call, w *worker, lo, hi int)) {
	if x.dyn.plain == nil {
		x.dyn = dynamics{dtype.NewDynamic(true), dtype.NewDynamic(false)}
	}
	x.strip, x.total = task, n
	x.rows(dtype.Blocks(n, dtype.DynamicBlock), dtype.DynamicBlock, func(x *call, w *worker, i int) {
		lo := i * dtype.DynamicBlock
		x.strip(x, w, lo, min(x.total, lo+dtype.DynamicBlock))
	})
}

// adamW8 keeps a block's moments in scratch memory from decoding to encoding.
func adamW8(_ *Device, x *call) error {
	x.blocks(x.t[0].cols, func(x *call, w *worker, lo, hi int) {
		wide := w.scratch(scratchRow, 2*dtype.DynamicBlock)
		m, v := wide[:hi-lo], wide[dtype.DynamicBlock:][:hi-lo]
		mc, vc := codes(x.cmd.T[2])[lo:hi], codes(x.cmd.T[3])[lo:hi]
		ms, vs := &x.t[4].p[lo/dtype.DynamicBlock], &x.t[5].p[lo/dtype.DynamicBlock]
		w.decode(m, mc, *ms, x.dyn.signed)
		w.decode(v, vc, *vs, x.dyn.plain)
		w.set(x.t[6].p...)
		w.apply(&w.fam.adamw, hi-lo, x.t[0].p[lo:hi], m, v, x.t[1].p[lo:hi])
		*ms = w.encode(mc, m, x.dyn.signed)
		*vs = w.encode(vc, v, x.dyn.plain)
	})
	return nil
}

func encode8(_ *Device, x *call) error {
	x.blocks(x.t[2].cols, func(x *call, w *worker, lo, hi int) {
		x.t[1].p[lo/dtype.DynamicBlock] = w.encode(codes(x.cmd.T[0])[lo:hi], x.t[2].p[lo:hi], x.dyn.of(x.cmd.I[0] != 0))
	})
	return nil
}

func decode8(_ *Device, x *call) error {
	x.blocks(x.t[0].cols, func(x *call, w *worker, lo, hi int) {
		w.decode(x.t[0].p[lo:hi], codes(x.cmd.T[1])[lo:hi], x.t[2].p[lo/dtype.DynamicBlock], x.dyn.of(x.cmd.I[0] != 0))
	})
	return nil
}

// codes is the memory of a row of bytes.
func codes(t kernels.Tensor) []uint8 { return t.Buf.Bytes[t.Off : t.Off+t.Cols] }

// decode reads a block. A kernel takes 16 lanes at a time, so the tail goes by way of padded copies.
func (w *worker) decode(x []float32, code []uint8, scale float32, d *dtype.Dynamic) {
	w.set(scale)
	w.args.x[2] = &d.Values[0]
	whole := len(x) &^ (lanes - 1)
	if whole > 0 {
		w.coded(&w.fam.decode, whole, &x[0], &code[0], 0)
	}
	if whole < len(x) {
		bytes := w.tailBytes()
		copy(bytes, code[whole:])
		w.coded(&w.fam.decode, lanes, &w.tail[0][0], &bytes[0], 0)
		copy(x[whole:], w.tail[0][:])
	}
}

// encode writes a block and returns its scale. Zeros are written as codes 0 under a scale of 0.
func (w *worker) encode(code []uint8, x []float32, d *dtype.Dynamic) float32 {
	scale := w.reduceMax(&w.fam.absMax, x)
	if d.Signed && scale > 0 && w.max(x) != scale {
		scale = -scale // the code of 1 is for the largest number
	}
	if scale == 0 {
		clear(code)
		return 0
	}
	k := &w.fam.encode
	if d.Signed {
		k = &w.fam.encodeSigned
	}
	w.set(scale)
	w.args.x[2] = (*float32)(unsafe.Pointer(&d.First[0]))
	w.args.x[3] = &d.Upper[0]
	whole := len(x) &^ (lanes - 1)
	if whole > 0 {
		w.coded(k, whole, &x[0], &code[0], 1)
	}
	if whole < len(x) {
		bytes := w.tailBytes()
		w.tail[0] = [lanes]float32{}
		copy(w.tail[0][:], x[whole:])
		w.coded(k, lanes, &w.tail[0][0], &bytes[0], 1)
		copy(code[whole:], bytes)
	}
	return scale
}

func (w *worker) tailBytes() []uint8 {
	return unsafe.Slice((*uint8)(unsafe.Pointer(&w.tail[1][0])), lanes)
}

// coded runs a kernel between floats, its operand number place, and bytes, operand 1 - place.
func (w *worker) coded(k *kernel, n int, x *float32, code *uint8, place int) {
	a := &w.args
	a.n, a.x[place], a.x[1-place] = n, x, (*float32)(unsafe.Pointer(code))
	k.run(a)
}

// reduceMax is the largest lane after a kernel whose lanes begin at 0.
func (w *worker) reduceMax(k *kernel, x []float32) float32 {
	w.args.acc = [lanes]float32{}
	w.apply(k, len(x), x)
	m := w.args.acc[0]
	for _, v := range w.args.acc[1:] {
		m = max(m, v)
	}
	return m
}

// factors is an Adafactor command at work. Its vectors lie in scratch memory of worker 0 that no row's task uses.
type factors struct {
	row, col []float32 // 1/√ of the relative mean of a row, of the mean of a column
	sumSq    []float64 // Σ u² of a row
}

// The hyper row of Adafactor.
const (
	factorClip = iota
	factorKeep
	factorBeta
	factorRest
	factorEps
	factorLimit
	factorRate
)

func adafactor(d *Device, x *call) error {
	f, rows, cols := &x.factors, x.t[0].rows, x.t[0].cols
	if rows*cols == 0 {
		return nil
	}
	w0 := d.pool.work[0]
	f.row = w0.scratch(scratchTile, rows)
	f.col = w0.scratch(scratchTile2, cols)
	s := w0.scratch(scratchTile3, 2*rows)
	f.sumSq = unsafe.Slice((*float64)(unsafe.Pointer(&s[0])), rows)
	if x.has(3) {
		x.factorMoments()
	} else {
		x.elementMoments()
	}
	x.rows(rows, cols, func(x *call, w *worker, i int) {
		x.factors.sumSq[i] = sumSqRows(w, oneRow(x.direction(w, i)))
	})
	total := 0.0
	for _, v := range f.sumSq {
		total += v
	}
	h := x.t[4].p
	rms := math.Sqrt(total / float64(rows*cols))
	x.rate = float32(-float64(h[factorRate]) / max(1, rms/float64(h[factorLimit])))
	x.rows(rows, cols, func(x *call, w *worker, i int) {
		u, to := x.direction(w, i), x.t[0].row(i)
		w.set(x.t[4].p[factorKeep])
		w.apply(&w.fam.scale, len(to), to, to)
		w.set(x.rate)
		w.apply(&w.fam.scaleAdd, len(to), to, u)
	})
	return nil
}

func oneRow(v []float32) mat[float32] { return mat[float32]{v, 1, len(v), len(v)} }

// factorMoments updates the means of rows and columns and makes the factors of them.
func (x *call) factorMoments() {
	f, h, rows, cols := &x.factors, x.t[4].p, x.t[0].rows, x.t[0].cols
	r, c := x.t[2].row(0), x.t[3].row(0)
	x.rows(rows, cols, func(x *call, w *worker, i int) {
		h, q := x.t[4].p, w.scratch(scratchRow, x.t[1].cols)
		w.set(h[factorClip], h[factorEps])
		w.apply(&w.fam.squares, len(q), q, x.t[1].row(i))
		x.factors.row[i] = w.sum(q) / float32(len(q))
	})
	x.strips(cols, func(x *call, w *worker, lo, hi int) {
		h, sum := x.t[4].p, x.factors.col[lo:hi]
		clear(sum)
		w.set(h[factorClip], h[factorEps])
		for i := range x.t[1].rows {
			w.apply(&w.fam.addSquares, hi-lo, sum, x.t[1].row(i)[lo:hi])
		}
	})
	mean := 0.0
	for i := range r {
		r[i] = float32(h[factorBeta]*r[i]) + float32(h[factorRest]*f.row[i])
		mean += float64(r[i])
	}
	mean /= float64(rows)
	for i, v := range r {
		f.row[i] = float32(1 / math.Sqrt(float64(v)/mean))
	}
	for j, v := range f.col {
		c[j] = float32(h[factorBeta]*c[j]) + float32(h[factorRest]*(v/float32(rows)))
		f.col[j] = float32(1 / math.Sqrt(float64(c[j])))
	}
}

// elementMoments updates moments of single elements.
func (x *call) elementMoments() {
	x.rows(x.t[0].rows, x.t[0].cols, func(x *call, w *worker, i int) {
		h, q, r := x.t[4].p, w.scratch(scratchRow, x.t[1].cols), x.t[2].row(i)
		w.set(h[factorClip], h[factorEps])
		w.apply(&w.fam.squares, len(q), q, x.t[1].row(i))
		for j, v := range q {
			r[j] = float32(h[factorBeta]*r[j]) + float32(h[factorRest]*v)
		}
	})
}

// direction is row i of the update before it is clipped.
func (x *call) direction(w *worker, i int) []float32 {
	g, u := x.t[1].row(i), w.scratch(scratchRow, x.t[1].cols)
	w.set(x.t[4].p[factorClip])
	w.apply(&w.fam.scale, len(u), u, g)
	if x.has(3) {
		w.set(x.factors.row[i], 0)
		w.apply(&w.fam.normScale, len(u), u, u, x.factors.col)
		return u
	}
	for j, v := range x.t[2].row(i) {
		u[j] *= float32(1 / math.Sqrt(float64(v)))
	}
	return u
}
