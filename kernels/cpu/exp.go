package cpu

import "math"

var negInf = float32(math.Inf(-1))

// Constants of exp: x = n·ln 2 + r, |r| <= ln 2 / 2, with ln 2 in two parts so that n·ln2Hi is nearly exact (Cody &
// Waite 1980), and a polynomial for exp(r), fitted at Chebyshev nodes, that is off by 1.1e-8 itself.
const (
	expHi  = 89.0   // above, exp is +Inf
	expLo  = -104.0 // below, exp is 0
	log2e  = 1.44269504088896341
	ln2Hi  = 0.693359375
	ln2Lo  = -2.12194440054690583e-4
	expC0  = 1.0
	expC1  = 1.0
	expC2  = 0.5
	expC3  = 0.16666576266288757
	expC4  = 0.041666463017463684
	expC5  = 0.008363205008208752
	expC6  = 0.001393368816934526
	expExp = 127 // exponent bias of float32
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
	// 2ⁿ in two factors: n reaches from -150 to 128, beyond what one exponent holds.
	i := int32(n)
	h := i >> 1
	return p * pow2(h) * pow2(i-h)
}

func pow2(n int32) float32 { return math.Float32frombits(uint32(n+expExp) << 23) }

// sigmoid is 1/(1+exp(-x)).
func sigmoid(x float32) float32 { return 1 / (1 + exp(-x)) }

// Constants of gelu in its tanh form, of which ½(1+tanh(u)) = sigmoid(2u) is a simpler way to write it:
// 2u = x·(geluA + geluB·x²).
const (
	geluA = 1.5957691216057308 // 2·√(2/π)
	geluB = geluA * 0.044715
)
