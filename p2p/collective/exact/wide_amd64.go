package exact

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// wide says whether this processor has the instructions of wide_amd64.s.
var wide = cpu.X86.HasAVX2 && cpu.X86.HasFMA

// Each wide function does as many elements (or blocks) as fit its width and returns how many: 0 without the instructions.

func wideAdd(dst, a, b []float32) int {
	n := fit(len(dst), 8)
	if n > 0 {
		addAVX2(&dst[0], &a[0], &b[0], n)
	}
	return n
}

func wideSubtract(dst, src []float32) int {
	n := fit(len(dst), 8)
	if n > 0 {
		subtractAVX2(&dst[0], &src[0], n)
	}
	return n
}

func wideSquares(lane *[16]float64, x []float32) int {
	n := fit(len(x), 16)
	if n > 0 {
		squaresAVX2(lane, &x[0], n)
	}
	return n
}

func wideDivide(dst, sum []float32, w float64) int {
	n := fit(len(dst), 8)
	if w < 1 || w > 1<<60 {
		return 0
	}
	if n > 0 {
		divideAVX2(&dst[0], &sum[0], n, w, 1/w)
	}
	return n
}

func wideEncode8(dst []byte, src []float32) int {
	n := fit(len(src), Block) / Block
	if n > 0 {
		encode8AVX2(unsafe.SliceData(dst), &src[0], n)
	}
	return n
}

func wideDecode8(dst []float32, src []byte) int {
	n := fit(len(dst), Block) / Block
	if n > 0 {
		decode8AVX2(&dst[0], unsafe.SliceData(src), n)
	}
	return n
}

// wideStream8 is wideDecode8 past the caches.
func wideStream8(dst []float32, src []byte) int {
	n := fit(len(dst), Block) / Block
	if n == 0 || uintptr(unsafe.Pointer(&dst[0]))%32 != 0 {
		return 0
	}
	stream8AVX2(&dst[0], unsafe.SliceData(src), n)
	return n
}

func wideAddDecoded8(dst []float32, src []byte) int {
	n := fit(len(dst), Block) / Block
	if n > 0 {
		addDecoded8AVX2(&dst[0], unsafe.SliceData(src), n)
	}
	return n
}

func wideEncode16(dst []byte, src []float32) int {
	n := fit(len(src), 16)
	if n > 0 {
		encode16AVX2(unsafe.SliceData(dst), &src[0], n)
	}
	return n
}

func wideDecode16(dst []float32, src []byte) int {
	n := fit(len(dst), 16)
	if n > 0 {
		decode16AVX2(&dst[0], unsafe.SliceData(src), n)
	}
	return n
}

func wideAddDecoded16(dst []float32, src []byte) int {
	n := fit(len(dst), 16)
	if n > 0 {
		addDecoded16AVX2(&dst[0], unsafe.SliceData(src), n)
	}
	return n
}

func fit(n, width int) int {
	if !wide {
		return 0
	}
	return n - n%width
}

//go:noescape
func addAVX2(dst, a, b *float32, n int)

//go:noescape
func subtractAVX2(dst, src *float32, n int)

//go:noescape
func squaresAVX2(lane *[16]float64, x *float32, n int)

//go:noescape
func divideAVX2(dst, sum *float32, n int, w, inv float64)

//go:noescape
func encode8AVX2(dst *byte, src *float32, blocks int)

//go:noescape
func stream8AVX2(dst *float32, src *byte, blocks int)

//go:noescape
func decode8AVX2(dst *float32, src *byte, blocks int)

//go:noescape
func addDecoded8AVX2(dst *float32, src *byte, blocks int)

//go:noescape
func encode16AVX2(dst *byte, src *float32, n int)

//go:noescape
func decode16AVX2(dst *float32, src *byte, n int)

//go:noescape
func addDecoded16AVX2(dst *float32, src *byte, n int)
