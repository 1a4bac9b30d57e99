package dtype

import "math"

// ToBF16 rounds to the nearest bfloat16.
func ToBF16(x float32) uint16 {
	b := math.Float32bits(x)
	if x != x {
		return uint16(b>>16) | 0x40 // keep it a NaN whose payload was in the lower half
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// FromBF16 is exact.
func FromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// ToF16 rounds to the nearest binary16; what is too large becomes an infinity.
func ToF16(x float32) uint16 {
	b := math.Float32bits(x)
	sign := uint16(b >> 16 & 0x8000)
	switch b &= 0x7fffffff; {
	case b > 0x7f800000:
		return sign | 0x7e00 | uint16(b>>13&0x1ff)
	case b >= 0x477ff000: // rounds to 65536 or more
		return sign | 0x7c00
	case b < 0x38800000: // subnormal: adding ½ shifts the last place of the result to the last place of a float32
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-0x3f000000)
	default:
		return sign | uint16((b-0x38000000+0xfff+b>>13&1)>>13)
	}
}

// FromF16 is exact.
func FromF16(h uint16) float32 {
	sign, mag := uint32(h&0x8000)<<16, uint32(h&0x7fff)
	switch {
	case mag >= 0x7c00: // infinity or NaN
		return math.Float32frombits(sign | 0x7f800000 | (mag&0x3ff)<<13)
	case mag >= 0x400:
		return math.Float32frombits(sign | (mag<<13 + 0x38000000))
	default: // subnormal: mag·2⁻²⁴
		return math.Float32frombits(sign | math.Float32bits(float32(mag)*0x1p-24))
	}
}
