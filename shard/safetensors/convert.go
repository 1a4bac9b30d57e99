package safetensors

import (
	"encoding/binary"
	"math"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
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
				dst[i] = dtype.FromBF16(le.Uint16(src[2*i:]))
			}
		}
	case F16:
		return func(dst []float32, src []byte) {
			for i := range dst {
				dst[i] = dtype.FromF16(le.Uint16(src[2*i:]))
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
				le.PutUint16(dst[2*i:], dtype.ToBF16(x))
			}
		}
	case F16:
		return func(dst []byte, src []float32) {
			for i, x := range src {
				le.PutUint16(dst[2*i:], dtype.ToF16(x))
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
