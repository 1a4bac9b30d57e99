package kernels

import (
	"fmt"
	"strconv"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// Tensor is a value: a (Rows, Cols) window on a buffer. The last dimension is contiguous, rows are Ld
// elements apart. Off, Cols and Ld count elements of Type. The zero Tensor means "none" where an op takes
// an optional operand.
type Tensor struct {
	Buf                 *Buffer
	Off, Rows, Cols, Ld int
	Type                dtype.Type
	Q                   *Quant // scales of int8 and nf4 storage, else nil
	Frozen              bool   // nobody writes the contents until the buffer is freed: a device may keep copies in forms of its own
}

// Quant holds the scales of quantized elements, as kernels/dtype makes them: one absmax per Block elements, counted from
// element First of the buffer, where the whole tensor starts. Windows on a quantized tensor share its Quant.
type Quant struct {
	Absmax, Offset Tensor // Absmax F32 (1, blocks); Offset is none: scales are not quantized themselves
	Block, First   int
}

// covers reports whether every element of the window t has a scale.
func (q *Quant) covers(t Tensor) bool {
	last := t.Off + (t.Rows-1)*t.Ld + t.Cols - 1
	return q != nil && q.Block > 0 && t.Off >= q.First && q.Offset.None() && isF32(q.Absmax, 1, -1) &&
		(t.Len() == 0 || (last-q.First)/q.Block < q.Absmax.Cols)
}

// None reports whether t is the zero Tensor, an optional operand left out.
func (t Tensor) None() bool { return t.Buf == nil }

// Len is the number of elements.
func (t Tensor) Len() int { return t.Rows * t.Cols }

// Packed reports whether the rows follow each other without gaps.
func (t Tensor) Packed() bool { return t.Ld == t.Cols || t.Rows <= 1 }

// SliceRows is the window on rows [lo, hi).
func (t Tensor) SliceRows(lo, hi int) Tensor {
	if lo < 0 || hi < lo || hi > t.Rows {
		panic(fmt.Sprintf("kernels: rows [%d,%d) of %v", lo, hi, t))
	}
	t.Off += lo * t.Ld
	t.Rows = hi - lo
	return t
}

// SliceCols is the window on columns [lo, hi).
func (t Tensor) SliceCols(lo, hi int) Tensor {
	if lo < 0 || hi < lo || hi > t.Cols {
		panic(fmt.Sprintf("kernels: columns [%d,%d) of %v", lo, hi, t))
	}
	t.Off += lo
	t.Cols = hi - lo
	return t
}

// Reshape is the same memory as (rows, cols); t must be packed and of the same length.
func (t Tensor) Reshape(rows, cols int) Tensor {
	if !t.Packed() || rows < 0 || cols < 0 || rows*cols != t.Len() {
		panic(fmt.Sprintf("kernels: reshape %v to (%d,%d)", t, rows, cols))
	}
	t.Rows, t.Cols, t.Ld = rows, cols, cols
	return t
}

// String is the shape and type, as in "(4,64) f32".
func (t Tensor) String() string {
	if t.None() {
		return "none"
	}
	return "(" + strconv.Itoa(t.Rows) + "," + strconv.Itoa(t.Cols) + ") " + t.Type.String()
}

// fits reports whether the window lies inside its buffer.
func (t Tensor) fits() bool {
	if t.Off < 0 || t.Rows < 0 || t.Cols < 0 || t.Ld < t.Cols && t.Rows > 1 {
		return false
	}
	if t.Len() == 0 {
		return true
	}
	return t.Type.Bytes(t.Off+(t.Rows-1)*t.Ld+t.Cols) <= t.Buf.Size
}
