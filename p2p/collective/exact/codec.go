package exact

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Codec is a form in which float32 vectors travel. Encoding rounds in one written way and decoding is a function of the
// bytes alone, so whoever has the same bytes has the same numbers.
type Codec uint8

const (
	FP32 Codec = 0 // little-endian float32: nothing is lost
	BF16 Codec = 1 // the upper half of a float32, rounded to nearest, ties to even
	Int8 Codec = 2 // blocks of Block signed bytes with a float32 scale, see encode8
)

var names = [...]string{FP32: "fp32", BF16: "bf16", Int8: "int8"}

// Parse finds a codec by its name.
func Parse(name string) (Codec, error) {
	for c, n := range names {
		if n == name {
			return Codec(c), nil
		}
	}
	return 0, fmt.Errorf("unknown codec %q; there are fp32, bf16 and int8", name)
}

func (c Codec) String() string {
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("codec %d", uint8(c))
}

// Valid says whether there is such a codec.
func (c Codec) Valid() bool { return int(c) < len(names) }

// Size is the bytes of n elements.
func (c Codec) Size(n int) int {
	switch c {
	case BF16:
		return 2 * n
	case Int8:
		return n + 4*((n+Block-1)/Block)
	}
	return 4 * n
}

// Elements is the number of elements in size bytes; false: no vector has that size.
func (c Codec) Elements(size int) (n int, ok bool) {
	switch c {
	case BF16:
		n = size / 2
	case Int8:
		n = size - 4*((size+int8Block-1)/int8Block)
	default:
		n = size / 4
	}
	return n, n > 0 && c.Size(n) == size
}

// Unit is how coded bytes may be cut: pieces of bytes bytes hold elements elements each.
func (c Codec) Unit() (elements, bytes int) {
	switch c {
	case BF16:
		return 4, 8
	case Int8:
		return Block, int8Block
	}
	return 2, 8
}

// Encode fills dst, of Size(len(src)) bytes.
func (c Codec) Encode(dst []byte, src []float32) {
	switch c {
	case BF16:
		encode16(dst, src)
	case Int8:
		encode8(dst, src)
	default:
		for i, x := range src {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(x))
		}
	}
}

// Decode fills dst from its Size(len(dst)) bytes.
func (c Codec) Decode(dst []float32, src []byte) {
	switch c {
	case BF16:
		src = src[:2*len(dst)]
		for i := wideDecode16(dst, src); i < len(dst); i++ {
			dst[i] = decoded16(src[2*i:])
		}
	case Int8:
		decode8(dst, src)
	default:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	}
}

// Stream is Decode to memory that is not read again soon: where it can, it goes past the processor's caches.
func (c Codec) Stream(dst []float32, src []byte) {
	n := 0
	if c == Int8 {
		n = wideStream8(dst, src)
	}
	if n == 0 {
		c.Decode(dst, src)
		return
	}
	decodeFrom(dst, src, n)
}

// Add adds what Decode would give, each addition rounded once to float32.
func (c Codec) Add(dst []float32, src []byte) {
	switch c {
	case BF16:
		src = src[:2*len(dst)]
		for i := wideAddDecoded16(dst, src); i < len(dst); i++ {
			dst[i] += decoded16(src[2*i:])
		}
	case Int8:
		addDecoded8(dst, src)
	default:
		for i := range dst {
			dst[i] += math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	}
}

func encode16(dst []byte, src []float32) {
	dst = dst[:2*len(src)]
	for i := wideEncode16(dst, src); i < len(src); i++ {
		binary.LittleEndian.PutUint16(dst[2*i:], encoded16(src[i]))
	}
}

func encoded16(x float32) uint16 {
	b := math.Float32bits(x)
	if b&magnitude > infinite {
		return quietNaN >> 16
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

func decoded16(src []byte) float32 {
	return math.Float32frombits(uint32(binary.LittleEndian.Uint16(src)) << 16)
}
