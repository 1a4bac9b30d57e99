package gguf

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
)

// Type is how the elements of a tensor are stored.
type Type string

// The types that are written.
const (
	None Type = "" // as the weights came
	F32  Type = "f32"
	F16  Type = "f16"
	BF16 Type = "bf16"
	Q8_0 Type = "q8_0" // blocks of 32: a float16 scale and 32 whole numbers of 8 bits
)

// ParseType reads a type's name.
func ParseType(name string) (Type, error) {
	switch t := Type(name); t {
	case None, F32, F16, BF16, Q8_0:
		return t, nil
	}
	return None, fmt.Errorf("%.20q is no type of weights in GGUF that shoal writes: choose f32, f16, bf16 or q8_0", name)
}

// block is how many elements Q8_0 scales together.
const block = 32

// of is the type for a matrix with rows of so many columns, which came in the type d: Q8_0 wants whole blocks.
func (t Type) of(cols int, d safetensors.DType) Type {
	switch {
	case t == Q8_0 && cols%block != 0:
		return F16
	case t != None:
		return t
	case d == safetensors.F16:
		return F16
	case d == safetensors.BF16:
		return BF16
	}
	return F32
}

// code is ggml's number for the type.
func (t Type) code() uint32 {
	switch t {
	case F16:
		return 1
	case Q8_0:
		return 8
	case BF16:
		return 30
	}
	return 0
}

// fileType is llama.cpp's number for a file of which most is of the type.
func (t Type) fileType() int {
	switch t {
	case F16:
		return 1
	case Q8_0:
		return 7
	case BF16:
		return 32
	}
	return 0
}

// bytes is the size of so many elements, whole blocks of them.
func (t Type) bytes(elems int64) int64 {
	switch t {
	case F16, BF16:
		return 2 * elems
	case Q8_0:
		return elems / block * (2 + block)
	}
	return 4 * elems
}

// append encodes v, whole blocks of it.
func (t Type) append(b []byte, v []float32) []byte {
	switch t {
	case F16:
		for _, x := range v {
			b = binary.LittleEndian.AppendUint16(b, dtype.ToF16(x))
		}
	case BF16:
		for _, x := range v {
			b = binary.LittleEndian.AppendUint16(b, dtype.ToBF16(x))
		}
	case Q8_0:
		for ; len(v) > 0; v = v[block:] {
			b = appendBlock(b, v[:block])
		}
	default:
		for _, x := range v {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
	}
	return b
}

// appendBlock is one block of Q8_0: d = max|x|/127 as float16, then round(x/d) with the float32 d, halves away from zero,
// as ggml's reference has it.
func appendBlock(b []byte, v []float32) []byte {
	top := float32(0)
	for _, x := range v {
		top = max(top, float32(math.Abs(float64(x))))
	}
	d := top / 127
	inverse := float32(0)
	if d != 0 {
		inverse = 1 / d
	}
	b = binary.LittleEndian.AppendUint16(b, dtype.ToF16(d))
	for _, x := range v {
		b = append(b, byte(int8(math.Round(float64(x*inverse)))))
	}
	return b
}
