package kerneltest

import (
	"bytes"
	"math"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// testWire: what travels has the bytes of the written form, whatever the numbers, and comes back as they say.
func testWire(b *bench) {
	for _, form := range []dtype.Wire{dtype.WireBF16, dtype.WireInt8} {
		for _, n := range []int{1, 7, 8, 127, 128, 129, 131, 300, 1024 + 37} {
			for _, off := range []int{0, 1} { // elements of x before the first, so that it lies at an odd address
				x := narrow(b.rand(1, n+off).v)
				for i := range x {
					x[i] *= float32(math.Exp(4 * b.rng.NormFloat64()))
				}
				if n > 256 {
					b.strange(x[128+off:])
				}
				tx, code := b.arena.F32(1, n+off), b.arena.Tensor(dtype.I8, 1, form.Bytes(n))
				b.s.Upload(tx, x)
				b.s.EncodeWire(code, tx.SliceCols(off, n+off), form)
				want, got := make([]byte, form.Bytes(n)), make([]byte, form.Bytes(n))
				form.Encode(want, x[off:])
				if err := b.s.DownloadBytes(got, code); err != nil || !bytes.Equal(got, want) {
					b.Fatalf("%d elements in form %d: %x, want %x (%v)", n, form, got, want, err)
				}
				back := make([]float32, n)
				form.Decode(back, want)
				b.s.DecodeWire(tx.SliceCols(off, n+off), code, form)
				b.same("decoded", b.get(tx.SliceCols(off, n+off)), back)
				b.done()
			}
		}
	}
}

// strange puts numbers into x, which is longer than a block, that forms have words of their own for.
func (b *bench) strange(x []float32) {
	copy(x, []float32{float32(math.NaN()), float32(math.Inf(-1)), 0, -1, 3.5})
	clear(x[dtype.WireBlock:])
	x[len(x)-1] = 1e-35
	x[len(x)-2] = float32(math.Copysign(0, -1))
	x[len(x)-3] = math.Float32frombits(0xff800001) // a NaN with a sign
	if len(x) > 2*dtype.WireBlock+3 {
		x[len(x)-3] = 2e-30 // ties, just above where blocks count as zero
		x[len(x)-4] = 1e-30
	}
}
