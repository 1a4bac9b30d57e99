package cpu

import "math"

// fma is a·b+c rounded once, as a fused multiply-add instruction gives it.
//
// The product of two float32 is exact in float64. Their sum with c is rounded to float64 and then to float32, which
// differs from one rounding only where the float64 lies half-way between two float32 and was itself rounded, or where
// the result is subnormal.
func fma(a, b, c float32) float32 {
	p, z := float64(a)*float64(b), float64(c)
	s := p + z
	bits := math.Float64bits(s)
	if bits&0x1fffffff == 0x10000000 || bits<<1 < 0x381<<53 {
		return fmaSlow(p, z, s)
	}
	return float32(s)
}

// fmaSlow breaks the tie by what the sum to float64 dropped: it makes the sum odd in its last bit when it was not
// exact (Boldo & Melquiond 2008, emulation of FMA with rounding to odd).
func fmaSlow(p, z, s float64) float32 {
	zz := s - p
	dropped := (p - (s - zz)) + (z - zz) // exact, Knuth's two-sum
	if dropped != 0 && math.Float64bits(s)&1 == 0 {
		up := math.Inf(1)
		if dropped < 0 {
			up = math.Inf(-1)
		}
		s = math.Nextafter(s, up)
	}
	return float32(s)
}
