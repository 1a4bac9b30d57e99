package cpu

import (
	"unsafe"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// widen is dst = src.
func (w *worker) widen(dst []float32, src []uint16) {
	whole := len(src) &^ (lanes - 1)
	if whole > 0 {
		_ = dst[:len(src)] // assembly does not check
		w.args.n, w.args.x[0], w.args.x[1] = whole, &dst[0], (*float32)(unsafe.Pointer(&src[0]))
		w.fam.widen.run(&w.args)
	}
	for i := whole; i < len(src); i++ {
		dst[i] = dtype.FromBF16(src[i])
	}
}

// narrow is dst = src, rounded.
func (w *worker) narrow(dst []uint16, src []float32) {
	whole := len(src) &^ (lanes - 1)
	if whole > 0 {
		_ = dst[:len(src)]
		w.args.n, w.args.x[0], w.args.x[1] = whole, (*float32)(unsafe.Pointer(&dst[0])), &src[0]
		w.fam.narrow.run(&w.args)
	}
	for i := whole; i < len(src); i++ {
		dst[i] = dtype.ToBF16(src[i])
	}
}
