package cpu

import "unsafe"

// family is a complete set of kernels for one kind of processor. All families give the same bits.
type family struct {
	name       string
	gemm       microkernel
	slim       []microkernel // for fewer columns; settle keeps one
	pairs      microkernel   // of words of two bfloat16; none where the processor has no instruction for it
	slimPairs  microkernel
	words, zip packer                             // panels of float32 and of such words
	fetch      func(at unsafe.Pointer, lines int) // brings lines into the second-level cache; nil: no such instruction
	peak       func(rounds int)                   // multiply-adds on registers alone; nil in plain Go
	peakSize   int                                // how many per round
	peakPairs  func(rounds int)

	add, mul, mulAdd          kernel // x0 = x1+x2; x1·x2; x0 + x1·x2 fused
	scale, axpy, scaleAdd     kernel // x0 = f0·x1; x0 + f0·x1 fused; x0 + f0·x1 rounded twice
	quotient                  kernel // x0 = x1/f0
	affine                    kernel // x0 = (x1-f0)·f1
	normScale, normScaleBias  kernel // x0 = (x1·f0)·(x2+f1); x0 = ((x1-f0)·f1)·x2 + x3 fused
	rmsDot                    kernel // acc += (x0·(x2+f0))·x1 fused
	rmsBack, rmsBackAdd       kernel // x0 (+)= f0·(x1·(x3+f1)) - f2·x2, the last fused
	rmsWeight                 kernel // x0 += (x1·f0)·x2 fused
	lnBack, lnBackAdd         kernel // x0 (+)= ((x1-f0) - f1·x2 fused)·f2
	lnWeight                  kernel // x0 += ((x1-f0)·f1)·x2 fused
	dot, sum, max             kernel // acc += x0·x1 fused; += x0; = max(acc, x0)
	expSum                    kernel // x0 = exp(x1-f0), acc += x0
	expScale                  kernel // x0 = exp(f1·x1-f0), acc += x0
	softBack                  kernel // x0 = x1·(x2-f0)·f1
	swiglu                    kernel // x0 = (x1·σ(x1))·x2
	swigluBack, swigluBackAdd kernel // x0, x1 (+)= gradients of gate and up; x2 dy, x3 gate, x4 up
	gelu                      kernel // x0 = gelu(x1)
	geluBack, geluBackAdd     kernel // x0 (+)= x1·gelu'(x2)
	sumSq                     kernel // sum += x0² in double precision
	widen, narrow             kernel // float32 x0 = bfloat16 x1; bfloat16 x0 = float32 x1
	round, roundF16           kernel // x0 = x1 rounded to bfloat16, to binary16
	traffic                   kernel // x0, x1, x2 += x3
	adamw                     kernel // x0 w, x1 m, x2 v, x3 g; f the hyper row
	lion, sgd, momentum       kernel // x0 w, x1 m, x2 g; sgd has no m; f the hyper row
	sophia                    kernel // x0 w, x1 m, x2 h, x3 g; f the hyper row
	averageSquares            kernel // x0 = f0·x0 + f1·x1²
	squares, addSquares       kernel // x0 (+)= (x1·f0)² + f1
	absMax                    kernel // acc = max(acc, |x0|)
	decode                    kernel // x0 = x2[x1]·f0 + 0; x1 has bytes
	encode, encodeSigned      kernel // x0, bytes, = codes of x1/f0; x2 cells, x3 upper ends
}

// microkernel multiplies packed panels: c (mr, nr) (+)= a (kc, mr)ᵀ · b (kc, nr), one fused multiply-add after the
// other along k. c's rows are ldc elements apart. The panel of a at next and the tile of c at then, which
// come after, are fetched into the cache on the way. Elements of panels are words of 32 bits: a float32, or two bfloat16
// that follow each other along k, the first in the upper half.
type microkernel struct {
	mr, nr int
	step   int // elements of k in a word
	run    func(kc int, a, b, c *float32, ldc, add int, next, then *float32)
	fewer  []variant // for the first rows of a panel, in rising order
}

// variant is a microkernel for fewer rows.
type variant struct {
	rows int
	run  func(kc int, a, b, c *float32, ldc, add int, next, then *float32)
}

// of is the variant with the fewest rows, but at least so many.
func (m *microkernel) of(rows int) variant {
	for _, v := range m.fewer {
		if v.rows >= rows {
			return v
		}
	}
	return variant{m.mr, m.run}
}
