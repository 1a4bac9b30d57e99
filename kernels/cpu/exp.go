package cpu

import "math"

var negInf = float32(math.Inf(-1))

// Constants of exp: x = n·ln 2 + r, |r| <= ln 2 / 2, with ln 2 in two parts so that n·ln2Hi is nearly exact (Cody &
// Waite 1980), and a polynomial for exp(r), fitted at Chebyshev nodes, that is off by 1.1e-8 itself.
const (
	expHi = 89.0  // above, exp is +Inf
	expLo = -87.4 // below -86.99, exp is 0: subnormal results would cost ten times as much
	log2e = 1.44269504088896341
	ln2Hi = 0.693359375
	ln2Lo = -2.12194440054690583e-4
	expC0 = 1.0
	expC1 = 1.0
	expC2 = 0.5
	expC3 = 0.16666576266288757
	expC4 = 0.041666463017463684
	expC5 = 0.008363205008208752
	expC6 = 0.001393368816934526
)

// exp is the exponential as every kernel family computes it, rounding by rounding. NaN stays NaN.
func exp(x float32) float32 {
	if x != x {
		return x
	}
	if !(expHi > x) {
		x = expHi
	}
	if !(expLo < x) {
		x = expLo
	}
	n := float32(math.RoundToEven(float64(float32(x * log2e))))
	r := fma(n, -ln2Hi, x)
	r = fma(n, -ln2Lo, r)
	p := float32(expC6)
	p = fma(p, r, expC5)
	p = fma(p, r, expC4)
	p = fma(p, r, expC3)
	p = fma(p, r, expC2)
	p = fma(p, r, expC1)
	p = fma(p, r, expC0)
	// 2ⁿ = 2·2ⁿ⁻¹, for n reaches 128. At its low end n-1 is -127, whose exponent bits are zero, and so is the result.
	return float32((p + p) * math.Float32frombits(uint32(int32(n)+126)<<23))
}

// sigmoid is 1/(1+exp(-x)).
func sigmoid(x float32) float32 { return 1 / (1 + exp(-x)) }

// Constants of gelu in its tanh form, of which ½(1+tanh(u)) = sigmoid(2u) is a simpler way to write it:
// 2u = x·(geluA + geluB·x²).
const (
	geluA = 1.5957691216057308 // 2·√(2/π)
	geluB = geluA * 0.044715
)
