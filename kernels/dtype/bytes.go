package dtype

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Decode widens little-endian elements of type t, as stored shards have them, to float32. F32, BF16 and F16 are
// exact; F64 and I32 round to nearest.
func Decode(dst []float32, t Type, src []byte) error {
	if err := fits(len(dst), t, len(src)); err != nil {
		return err
	}
	le := binary.LittleEndian
	switch t {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(src[4*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = FromBF16(le.Uint16(src[2*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = FromF16(le.Uint16(src[2*i:]))
		}
	case I32:
		for i := range dst {
			dst[i] = float32(int32(le.Uint32(src[4*i:])))
		}
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(le.Uint64(src[8*i:])))
		}
	}
	return nil
}

// Encode rounds float32 numbers to little-endian elements of type F32, BF16, F16 or F64.
func Encode(dst []byte, t Type, src []float32) error {
	if err := fits(len(src), t, len(dst)); err != nil {
		return err
	}
	le := binary.LittleEndian
	for i, x := range src {
		switch t {
		case F32:
			le.PutUint32(dst[4*i:], math.Float32bits(x))
		case BF16:
			le.PutUint16(dst[2*i:], ToBF16(x))
		case F16:
			le.PutUint16(dst[2*i:], ToF16(x))
		case F64:
			le.PutUint64(dst[8*i:], math.Float64bits(float64(x)))
		default:
			return fmt.Errorf("float32 numbers have no form as %v", t)
		}
	}
	return nil
}

// fits refuses types whose elements need scales, and lengths that do not belong together.
func fits(n int, t Type, bytes int) error {
	if !t.Valid() || t == I8 || t == NF4 {
		return fmt.Errorf("elements of type %v do not stand for themselves", t)
	}
	if bytes != t.Bytes(n) {
		return fmt.Errorf("%d elements of type %v need %d bytes, not %d", n, t, t.Bytes(n), bytes)
	}
	return nil
}
