package safetensors

import (
	"encoding/binary"
	"math"
)

var le = binary.LittleEndian

// toF32 picks the conversion from d; nil: there is none.
func toF32(d DType) func([]float32, []byte) {
	switch d {
	case F32:
		return func(dst []float32, src []byte) {
			for i := range dst {
				dst[i] = math.Float32frombits(le.Uint32(src[4*i:]))
			}
		}
	case BF16:
		return func(dst []float32, src []byte) {
			for i := range dst {
				dst[i] = math.Float32frombits(uint32(le.Uint16(src[2*i:])) << 16)
			}
		}
	case F16:
		return func(dst []float32, src []byte) {
			for i := range dst {
				dst[i] = fromF16(le.Uint16(src[2*i:]))
			}
		}
	case F64:
		return func(dst []float32, src []byte) {
			for i := range dst {
				dst[i] = float32(math.Float64frombits(le.Uint64(src[8*i:])))
			}
		}
	}
	return nil
}

// toF64 picks the conversion from d; nil: there is none.
func toF64(d DType) func([]float64, []byte) {
	if d == F64 {
		return func(dst []float64, src []byte) {
			for i := range dst {
				dst[i] = math.Float64frombits(le.Uint64(src[8*i:]))
			}
		}
	}
	narrow := toF32(d)
	if narrow == nil {
		return nil
	}
	return func(dst []float64, src []byte) {
		var one [1]float32
		size := d.Size()
		for i := range dst {
			narrow(one[:], src[size*i:])
			dst[i] = float64(one[0])
		}
	}
}

// toI64 picks the conversion from d; nil: there is none.
func toI64(d DType) func([]int64, []byte) {
	var at func(b []byte) int64
	switch d {
	case I64:
		at = func(b []byte) int64 { return int64(le.Uint64(b)) }
	case I32:
		at = func(b []byte) int64 { return int64(int32(le.Uint32(b))) }
	case I16:
		at = func(b []byte) int64 { return int64(int16(le.Uint16(b))) }
	case I8:
		at = func(b []byte) int64 { return int64(int8(b[0])) }
	case U8, Bool:
		at = func(b []byte) int64 { return int64(b[0]) }
	default:
		return nil
	}
	size := d.Size()
	return func(dst []int64, src []byte) {
		for i := range dst {
			dst[i] = at(src[size*i:])
		}
	}
}

// fromFloat32 picks the conversion to d, rounding to nearest even; nil: there is none.
func fromFloat32(d DType) func([]byte, []float32) {
	switch d {
	case F32:
		return func(dst []byte, src []float32) {
			for i, x := range src {
				le.PutUint32(dst[4*i:], math.Float32bits(x))
			}
		}
	case BF16:
		return func(dst []byte, src []float32) {
			for i, x := range src {
				le.PutUint16(dst[2*i:], toBF16(x))
			}
		}
	case F16:
		return func(dst []byte, src []float32) {
			for i, x := range src {
				le.PutUint16(dst[2*i:], toF16(x))
			}
		}
	case F64:
		return func(dst []byte, src []float32) {
			for i, x := range src {
				le.PutUint64(dst[8*i:], math.Float64bits(float64(x)))
			}
		}
	}
	return nil
}

// toBF16 rounds to nearest even and keeps NaN a NaN.
func toBF16(x float32) uint16 {
	b := math.Float32bits(x)
	if x != x {
		return uint16(b>>16) | 0x40 // set a mantissa bit that survives the cut
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// fromF16 is exact.
func fromF16(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp, man := uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exp {
	case 0: // zero and subnormal: man · 2^-24
		x := float32(man) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(x) | sign)
	case 31: // infinity and NaN
		return math.Float32frombits(sign | 0x7f800000 | man<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | man<<13)
}

// toF16 rounds to nearest even, overflows to infinity and keeps NaN a NaN.
func toF16(x float32) uint16 {
	b := math.Float32bits(x)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000: // NaN
		return sign | 0x7e00 | uint16(b>>13&0x3ff)
	case b >= 0x477ff000: // 65520 and above round to infinity
		return sign | 0x7c00
	case b < 0x38800000: // below 2^-14: subnormal or zero; adding 0.5 lets the hardware round at bit 2^-24
		f := math.Float32frombits(b) + 0.5
		return sign | uint16(math.Float32bits(f)-0x3f000000)
	}
	return sign | uint16((b-0x38000000+0xfff+b>>13&1)>>13)
}
