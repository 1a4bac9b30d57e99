package cpu

import (
	"unsafe"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// mat is a tensor's window as Go memory: row i is p[i*ld : i*ld+cols].
type mat[E any] struct {
	p              []E
	rows, cols, ld int
}

func (m mat[E]) row(i int) []E { return m.p[i*m.ld : i*m.ld+m.cols] }

// packed reports whether the rows follow each other without gaps.
func (m mat[E]) packed() bool { return m.ld == m.cols || m.rows <= 1 }

// window is the part of rows [rlo, rhi) and columns [clo, chi).
func (m mat[E]) window(rlo, rhi, clo, chi int) mat[E] {
	if rhi == rlo || chi == clo {
		return mat[E]{rows: rhi - rlo, cols: chi - clo, ld: m.ld}
	}
	return mat[E]{m.p[rlo*m.ld+clo:], rhi - rlo, chi - clo, m.ld}
}

// matrix is a mat of F32; p is nil where its elements are BF16 or quantized.
type matrix struct {
	mat[float32]
	half []uint16   // of BF16
	q    *quantized // of I8 and NF4
}

// quantized is the elements of an I8 or NF4 matrix.
type quantized struct {
	typ    dtype.Type
	bytes  []byte // of the whole buffer
	off    int    // element of the buffer that the matrix starts with
	absmax []float32
	block  int
	first  int // element that the first block starts with
}

// window is the part of rows [rlo, rhi) and columns [clo, chi).
func (m matrix) window(rlo, rhi, clo, chi int) matrix {
	if m.half == nil {
		return matrix{mat: m.mat.window(rlo, rhi, clo, chi)}
	}
	h := mat[uint16]{m.half, m.rows, m.cols, m.ld}.window(rlo, rhi, clo, chi)
	return matrix{mat: mat[float32]{nil, h.rows, h.cols, h.ld}, half: h.p}
}

// matrixOf views a tensor of F32 or BF16.
func matrixOf(t kernels.Tensor) matrix {
	if t.Type == dtype.BF16 {
		m := view[uint16](t, dtype.BF16)
		return matrix{mat: mat[float32]{nil, m.rows, m.cols, m.ld}, half: m.p}
	}
	return matrix{mat: f32(t)}
}

// view checks the window against its buffer once; the type is the one that E stands for.
func view[E float32 | int32 | float64 | uint16](t kernels.Tensor, typ dtype.Type) mat[E] {
	if t.None() || t.Len() == 0 {
		return mat[E]{rows: t.Rows, cols: t.Cols, ld: t.Ld}
	}
	if t.Type != typ {
		panic("kernels/cpu: " + t.String() + " seen as " + typ.String())
	}
	size := int(unsafe.Sizeof(*new(E)))
	n := (t.Rows-1)*t.Ld + t.Cols
	b := t.Buf.Bytes[t.Off*size : (t.Off+n)*size]
	return mat[E]{unsafe.Slice((*E)(unsafe.Pointer(&b[0])), n), t.Rows, t.Cols, t.Ld}
}

func f32(t kernels.Tensor) mat[float32] { return view[float32](t, dtype.F32) }
func i32(t kernels.Tensor) mat[int32]   { return view[int32](t, dtype.I32) }
func f64(t kernels.Tensor) mat[float64] { return view[float64](t, dtype.F64) }
