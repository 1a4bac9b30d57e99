package cpu

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// quantizedOf views an I8 or NF4 tensor in q.
func quantizedOf(q *quantized, t kernels.Tensor) matrix {
	*q = quantized{typ: t.Type, bytes: t.Buf.Bytes, off: t.Off, absmax: f32(t.Q.Absmax).p, block: t.Q.Block, first: t.Q.First}
	return matrix{mat: mat[float32]{nil, t.Rows, t.Cols, t.Ld}, q: q}
}

// fetch decodes len(dst) elements from the at'th of the matrix on, as dtype.DequantizeI8 and DequantizeNF4 do.
func (q *quantized) fetch(dst []float32, at int, levels *[16]float32) {
	for at += q.off; len(dst) > 0; {
		b := (at - q.first) / q.block
		n := min(len(dst), q.first+(b+1)*q.block-at)
		if q.typ == dtype.I8 {
			scale := float32(q.absmax[b] / 127)
			for i, v := range q.bytes[at : at+n] {
				dst[i] = float32(int8(v)) * scale
			}
		} else {
			fetchNF4(dst[:n], q.bytes, at, q.absmax[b], levels)
		}
		dst, at = dst[n:], at+n
	}
}

// fetchNF4 decodes elements of one block from element at on, two to a byte with the first in the high half.
func fetchNF4(dst []float32, packed []byte, at int, absmax float32, levels *[16]float32) {
	var scaled [16]float32
	for c := range scaled {
		scaled[c] = levels[c] * absmax
	}
	if at%2 == 1 && len(dst) > 0 {
		dst[0] = scaled[packed[at/2]&15]
		dst, at = dst[1:], at+1
	}
	codes := packed[at/2:]
	for i := 0; i+1 < len(dst); i += 2 {
		c := codes[i/2]
		dst[i], dst[i+1] = scaled[c>>4], scaled[c&15]
	}
	if n := len(dst); n%2 == 1 {
		dst[n-1] = scaled[codes[n/2]>>4]
	}
}
