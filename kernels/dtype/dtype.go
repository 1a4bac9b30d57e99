// Package dtype names the element types that tensors and stored shards have, their sizes, and the
// conversions between them. All conversions to a narrower type round to nearest, ties to even, and keep
// NaN a NaN; all functions are pure and safe for concurrent use.
package dtype

// Type is the element type of a tensor. The zero value is F32. The numbers are part of on-disk and
// on-wire records: never renumber.
type Type uint8

const (
	F32  Type = 0 // IEEE 754 binary32
	BF16 Type = 1 // the upper half of a binary32
	F16  Type = 2 // IEEE 754 binary16
	I8   Type = 3 // signed 8 bit integers with separate scales
	NF4  Type = 4 // 4 bit NormalFloat codes, two per byte, first element in the high nibble
	I32  Type = 5 // token ids, positions, row indexes
	F64  Type = 6 // exact accumulators (squared norms, sums of losses)
)

var names = [...]string{"f32", "bf16", "f16", "i8", "nf4", "i32", "f64"}
var bits = [...]int{32, 16, 16, 8, 4, 32, 64}

// Valid reports whether t is one of the types above.
func (t Type) Valid() bool { return int(t) < len(names) }

// String is the lower-case name, as in "bf16".
func (t Type) String() string {
	if !t.Valid() {
		return "dtype?"
	}
	return names[t]
}

// Bits is the size of an element in bits.
func (t Type) Bits() int {
	if !t.Valid() {
		panic("dtype: unknown type")
	}
	return bits[t]
}

// Bytes is the storage of n elements in bytes, rounded up to whole bytes.
func (t Type) Bytes(n int) int { return (n*t.Bits() + 7) / 8 }
