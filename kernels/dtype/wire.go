package dtype

import (
	"encoding/binary"
	"math"
)

// Wire is a form in which vectors of float32 travel between nodes. Encoding rounds in one written way; decoding is a
// function of the bytes alone. The network's own coder (p2p/collective/exact) has the same bytes; a test of node/worker holds
// the two together.
type Wire int32

const (
	WireBF16 Wire = 1 // the upper half of each float32, rounded to nearest, ties to even; every NaN is 0x7fc0
	WireInt8 Wire = 2 // blocks of WireBlock: a float32 scale, max|x|/127, then round(x·(127/max|x|)), ties to even
)

// WireBlock is how many elements share a scale in WireInt8; a block travels as WireBlock + 4 bytes.
const WireBlock = 128

const (
	wireTiny     = 0x0d800000 // bits of 2^-100: a block of what is smaller is zero, so that 127/max is finite
	wireInfinite = 0x7f800000 // bits of +Inf: a block with a NaN or an infinity comes back as NaN
	wireNaN      = 0x7fc00000 // bits
)

// Valid says whether there is such a form.
func (w Wire) Valid() bool { return w == WireBF16 || w == WireInt8 }

// Bytes is what n elements take.
func (w Wire) Bytes(n int) int {
	if w == WireInt8 {
		return n + 4*Blocks(n, WireBlock)
	}
	return 2 * n
}

// Encode fills dst, of Bytes(len(src)) bytes.
func (w Wire) Encode(dst []byte, src []float32) {
	if w == WireBF16 {
		for i, x := range src {
			h := ToBF16(x)
			if x != x {
				h = wireNaN >> 16
			}
			binary.LittleEndian.PutUint16(dst[2*i:], h)
		}
		return
	}
	for len(src) > 0 {
		k := min(len(src), WireBlock)
		encodeWireBlock(dst[:4+k], src[:k])
		dst, src = dst[4+k:], src[k:]
	}
}

func encodeWireBlock(dst []byte, src []float32) {
	var most uint32
	for _, x := range src {
		most = max(most, math.Float32bits(x)&math.MaxInt32)
	}
	var scale uint32
	clear(dst[4:])
	switch {
	case most >= wireInfinite:
		scale = wireNaN
	case most >= wireTiny:
		top := math.Float32frombits(most)
		scale = math.Float32bits(top / 127)
		inv := 127 / top
		for i, x := range src {
			dst[4+i] = byte(int8(math.RoundToEven(float64(float32(x * inv)))))
		}
	}
	binary.LittleEndian.PutUint32(dst, scale)
}

// Decode fills dst from its Bytes(len(dst)) bytes.
func (w Wire) Decode(dst []float32, src []byte) {
	if w == WireBF16 {
		for i := range dst {
			dst[i] = FromBF16(binary.LittleEndian.Uint16(src[2*i:]))
		}
		return
	}
	for len(dst) > 0 {
		k := min(len(dst), WireBlock)
		scale := math.Float32frombits(binary.LittleEndian.Uint32(src))
		for i, q := range src[4 : 4+k] {
			dst[i] = float32(int8(q)) * scale
		}
		dst, src = dst[k:], src[4+k:]
	}
}
