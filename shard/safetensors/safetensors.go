// Package safetensors reads and writes safetensors files, the container in which models and adapters travel, and
// the index that spreads one model over several files.
//
// Layout of a file: a little-endian u64 with the length of the header in bytes, the header as JSON
// {"name":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"__metadata__":{"format":"pt"}} padded with spaces to a
// multiple of 8, then the tensors' bytes, row-major and little-endian. Offsets count from the end of the header.
//
// Files come from strangers. Open reads the header alone, bounded by the size of the file and MaxHeader, and refuses
// anything that does not describe the rest of the file exactly once: overlaps, holes, short files, trailing bytes,
// shapes that do not match their offsets, duplicate names. Tensors may stand in any order and at any alignment. A tensor
// of an element type that this package does not know is an error only when somebody reads it.
//
// A File or Set is immutable and safe for concurrent use if its io.ReaderAt is. A Writer belongs to one goroutine.
package safetensors

import (
	"fmt"
	"math"
	"math/bits"
)

// Limits on what is read. The first is the format's own; the others are far above any published model.
const (
	MaxHeader  = 100 << 20 // bytes of a header
	MaxTensors = 1 << 16   // in one file
	MaxRank    = 16        // dimensions of a tensor
	MaxIndex   = 64 << 20  // bytes of an index
	MaxShards  = 1 << 12   // files of one model
)

// DType is an element type, by its name in the header.
type DType string

// Element types that can be converted. Others can be copied with Raw.
const (
	F64  DType = "F64"
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
	I64  DType = "I64"
	I32  DType = "I32"
	I16  DType = "I16"
	I8   DType = "I8"
	U8   DType = "U8"
	Bool DType = "BOOL"
)

// Size is the number of bytes of one element, 0 if the type is unknown.
func (d DType) Size() int {
	switch d {
	case F64, I64, "U64":
		return 8
	case F32, I32, "U32":
		return 4
	case F16, BF16, I16, "U16":
		return 2
	case I8, U8, Bool, "F8_E4M3", "F8_E5M2":
		return 1
	}
	return 0
}

// Tensor says what a tensor is and where its bytes lie.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	Lo    int64 // first byte, counted from the end of the header
	Hi    int64 // one past the last byte
}

// Elems is the number of elements; 1 for a scalar.
func (t Tensor) Elems() int {
	n, _ := product(t.Shape)
	return n
}

// Bytes is the length of the tensor's bytes.
func (t Tensor) Bytes() int64 { return t.Hi - t.Lo }

// product multiplies dimensions from left to right; false: a dimension is negative or a partial product does not fit.
func product(shape []int) (int, bool) {
	n := uint64(1)
	for _, d := range shape {
		hi, lo := bits.Mul64(n, uint64(d))
		if d < 0 || hi != 0 || lo > math.MaxInt {
			return 0, false
		}
		n = lo
	}
	return int(n), true
}

// check holds the shape against the offsets.
func (t Tensor) check() error {
	if len(t.Shape) > MaxRank {
		return fmt.Errorf("%d dimensions, limit %d", len(t.Shape), MaxRank)
	}
	n, ok := product(t.Shape)
	if !ok {
		return fmt.Errorf("shape %v overflows", t.Shape)
	}
	if t.Lo < 0 || t.Hi < t.Lo {
		return fmt.Errorf("bad offsets [%d, %d)", t.Lo, t.Hi)
	}
	size := t.DType.Size()
	if size == 0 {
		return nil // unknown type: the offsets alone say where it is
	}
	if hi, lo := bits.Mul64(uint64(n), uint64(size)); hi != 0 || lo != uint64(t.Hi-t.Lo) {
		return fmt.Errorf("shape %v of %s does not fill offsets [%d, %d)", t.Shape, t.DType, t.Lo, t.Hi)
	}
	return nil
}
