package cpu

import "math"

// fma is a·b+c rounded once, as a fused multiply-add instruction gives it.
//
// The product of two float32 is exact in float64. Their sum with c is rounded to float64 and then to float32, which is
// what one rounding gives except where twice says so.
func fma(a, b, c float32) float32 {
	p, z := float64(a)*float64(b), float64(c)
	s := p + z
	if twice(s) {
		return roundOnce(p, z, s)
	}
	return float32(s)
}

// twice reports whether rounding s to float32 may differ from rounding the exact sum that s stands for: s lies half-way
// between two float32, or the result is subnormal.
func twice(s float64) bool {
	u := math.Float64bits(s)
	return u&0x1fffffff == 0x10000000 || u<<1-1 < 0x381<<53
}

// roundOnce breaks the tie by what the sum s = p+z to float64 dropped: it makes s odd in its last bit when it was not
// exact (Boldo & Melquiond 2008, emulation of FMA with rounding to odd).
func roundOnce(p, z, s float64) float32 {
	zz := s - p
	dropped := (p - (s - zz)) + (z - zz) // exact, Knuth's two-sum
	if dropped != 0 && math.Float64bits(s)&1 == 0 {
		s = math.Nextafter(s, math.Copysign(math.Inf(1), dropped))
	}
	return float32(s)
}
