package cpu

import "unsafe"

const (
	lanes       = 16      // virtual lanes of every reduction and the grain of every vector kernel
	maxOperands = 5       // pointers of a vector kernel
	maxBlock    = 1 << 15 // elements per call: assembly cannot be preempted, and this is about 10 µs
)

// args is what a vector kernel is called with. Kernels read n, a multiple of lanes, elements at each operand. The
// assembly knows the offsets: n 0, x 8, f 48, acc 96, sum 160.
type args struct {
	n   int
	x   [maxOperands]*float32
	f   [12]float32    // scalars
	acc [lanes]float32 // lane sums or maxima, in and out
	sum [lanes]float64 // lane sums in double precision, in and out
}

// kernel is one vector kernel of a family, and what the code around it must know.
type kernel struct {
	run  func(*args)
	outs int     // operands 0 to outs-1 are written
	pad  float32 // fills the lanes behind a row's end, so that reductions do not see them
}

// apply runs k over the rows xs, all of the same length, in blocks, then over the tail of less than 16 elements in a
// padded copy. The scalars and accumulators are in w.args.
func (w *worker) apply(k *kernel, n int, xs ...[]float32) {
	a := &w.args
	whole := n &^ (lanes - 1)
	for lo := 0; lo < whole; lo += maxBlock {
		a.n = min(maxBlock, whole-lo)
		for i, x := range xs {
			a.x[i] = &x[lo : lo+a.n][0] // checks both ends: assembly does not
		}
		k.run(a)
	}
	if whole < n {
		w.applyTail(k, whole, n, xs)
	}
}

func (w *worker) applyTail(k *kernel, lo, hi int, xs [][]float32) {
	a := &w.args
	a.n = lanes
	for i, x := range xs {
		t := &w.tail[i]
		for j := copy(t[:], x[lo:hi]); j < lanes; j++ {
			t[j] = k.pad
		}
		a.x[i] = &t[0]
	}
	k.run(a)
	for i := range k.outs {
		copy(xs[i][lo:hi], w.tail[i][:])
	}
}

// reduce is apply on lane sums that start at zero, folded.
func (w *worker) reduce(k *kernel, n int, xs ...[]float32) float32 {
	w.args.acc = [lanes]float32{}
	w.apply(k, n, xs...)
	return fold(w.args.acc)
}

// fold adds the lanes in halves: j += j+8, then 4, 2, 1.
func fold(l [lanes]float32) float32 {
	for h := lanes / 2; h > 0; h /= 2 {
		for j := range h {
			l[j] += l[j+h]
		}
	}
	return l[0]
}

// dot is Σ a·b, each lane a chain of fused multiply-adds.
func (w *worker) dot(a, b []float32) float32 { return w.reduce(&w.fam.dot, len(a), a, b) }

// sum is Σ a.
func (w *worker) sum(a []float32) float32 { return w.reduce(&w.fam.sum, len(a), a) }

// max is the largest element, passing over NaN; -Inf if there is none.
func (w *worker) max(a []float32) float32 {
	for i := range w.args.acc {
		w.args.acc[i] = negInf
	}
	w.apply(&w.fam.max, len(a), a)
	m := w.args.acc[0]
	for _, v := range w.args.acc[1:] {
		if v > m {
			m = v
		}
	}
	return m
}

// set puts scalars for the next kernel.
func (w *worker) set(f ...float32) { copy(w.args.f[:], f) }

// operand is an operand of a generic kernel as a slice; halves is one of bfloat16.
func (a *args) operand(i int) []float32 { return unsafe.Slice(a.x[i], a.n) }

func (a *args) halves(i int) []uint16 { return unsafe.Slice((*uint16)(unsafe.Pointer(a.x[i])), a.n) }

// bytes is n bytes at an operand.
func (a *args) bytes(i, n int) []uint8 { return unsafe.Slice((*uint8)(unsafe.Pointer(a.x[i])), n) }

// floats is n floats at an operand.
func (a *args) floats(i, n int) []float32 { return unsafe.Slice(a.x[i], n) }
