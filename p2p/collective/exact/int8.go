package exact

import (
	"encoding/binary"
	"math"
)

// Block is the number of elements that share a scale in the int8 codec.
const Block = 128

const (
	int8Block = 4 + Block     // bytes
	tiny      = 0x0d800000    // bits of 2^-100: what is smaller counts as zero, so that 127/max is finite
	infinite  = 0x7f800000    // bits of +Inf
	quietNaN  = 0x7fc00000    // bits
	magnitude = math.MaxInt32 // mask
	qMax      = float32(127)
)

// encode8 is the blockwise 8-bit codec: per Block elements (the last block may be shorter) the scale max|x|/127 as
// little-endian float32, then round(x * (127/max|x|)), ties to even, one signed byte per element. An element comes back
// as byte * scale; its error is at most max|x|/254 and a rounding. A block whose largest magnitude is below 2^-100 is
// zero; one that holds a NaN or an infinity comes back as NaN.
func encode8(dst []byte, src []float32) {
	n := wideEncode8(dst, src)
	dst, src = dst[n*int8Block:], src[n*Block:]
	for len(src) > 0 {
		k := min(len(src), Block)
		encodeBlock(dst, src[:k])
		dst, src = dst[4+k:], src[k:]
	}
}

func encodeBlock(dst []byte, src []float32) {
	var most uint32
	for _, x := range src {
		most = max(most, math.Float32bits(x)&magnitude)
	}
	if most < tiny || most >= infinite {
		scale := uint32(0)
		if most >= infinite {
			scale = quietNaN
		}
		binary.LittleEndian.PutUint32(dst, scale)
		clear(dst[4 : 4+len(src)])
		return
	}
	top := math.Float32frombits(most)
	binary.LittleEndian.PutUint32(dst, math.Float32bits(top/qMax))
	inv := qMax / top
	for i, x := range src {
		dst[4+i] = byte(roundEven(x * inv))
	}
}

func decode8(dst []float32, src []byte) {
	decodeFrom(dst, src, wideDecode8(dst, src))
}

// decodeFrom decodes all but the first n blocks.
func decodeFrom(dst []float32, src []byte, n int) {
	dst, src = dst[n*Block:], src[n*int8Block:]
	for len(dst) > 0 {
		k := min(len(dst), Block)
		scale := math.Float32frombits(binary.LittleEndian.Uint32(src))
		for i, q := range src[4 : 4+k] {
			dst[i] = float32(int8(q)) * scale
		}
		dst, src = dst[k:], src[4+k:]
	}
}

func addDecoded8(dst []float32, src []byte) {
	n := wideAddDecoded8(dst, src)
	dst, src = dst[n*Block:], src[n*int8Block:]
	for len(dst) > 0 {
		k := min(len(dst), Block)
		scale := math.Float32frombits(binary.LittleEndian.Uint32(src))
		for i, q := range src[4 : 4+k] {
			y := float32(int8(q)) * scale
			dst[i] += y
		}
		dst, src = dst[k:], src[4+k:]
	}
}
