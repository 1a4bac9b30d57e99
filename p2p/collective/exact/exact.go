// Package exact holds the element-wise operations of a round that every node must do to the same bits: sums, squares, the
// mean, and the codecs in which vectors travel.
//
// Each is IEEE arithmetic in a written order, every operation rounded once, so the vector instructions used where there
// are any give the same bits as the plain Go beside them. Nothing here allocates; all functions are safe for concurrent
// use on memory that does not overlap.
package exact

import "math"

// Add does dst += src, each addition rounded once to float32.
func Add(dst, src []float32) {
	AddTo(dst, dst, src)
}

// AddTo does dst = a + b, each addition rounded once to float32.
func AddTo(dst, a, b []float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	n := wideAdd(dst, a, b)
	for i := n; i < len(dst); i++ {
		dst[i] = a[i] + b[i]
	}
}

// Subtract does dst -= src, each difference rounded once to float32.
func Subtract(dst, src []float32) {
	src = src[:len(dst)]
	n := wideSubtract(dst, src)
	for i := n; i < len(dst); i++ {
		dst[i] -= src[i]
	}
}

// Squares is a sum of squares in float64 in an order that every backend keeps: element i of all that was added goes to
// lane i mod 16, each lane adds the exact squares of its elements in ascending order, and the lanes fold as a tree. A
// square of a float32 is exact in float64, so a fused multiply-add gives the same bits. The zero value is empty.
type Squares struct{ lane [16]float64 }

// Add takes more elements: a multiple of 16, except for the last ones.
func (s *Squares) Add(x []float32) {
	x = x[wideSquares(&s.lane, x):]
	for ; len(x) >= 16; x = x[16:] {
		for j, e := range x[:16:16] {
			s.lane[j] += float64(e) * float64(e)
		}
	}
	for j, e := range x {
		s.lane[j] += float64(e) * float64(e)
	}
}

// Sum folds the lanes: lane j takes lane j+8, then j+4, j+2 and j+1.
func (s Squares) Sum() float64 {
	for w := 8; w > 0; w /= 2 {
		for j := range w {
			s.lane[j] += s.lane[j+w]
		}
	}
	return s.lane[0]
}

// Divide does dst = sum / weight: the quotient in float64, then rounded to float32. dst may be sum.
func Divide(dst, sum []float32, weight int64) {
	w := float64(weight)
	sum = sum[:len(dst)]
	n := wideDivide(dst, sum, w)
	for i := n; i < len(dst); i++ {
		dst[i] = float32(float64(sum[i]) / w)
	}
}

// roundEven is the nearest integer, ties to even, of a float32 whose magnitude is below 2^22.
func roundEven(x float32) int8 { return int8(math.RoundToEven(float64(x))) }
