package kerneltest

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// testMatMulQuantized: a product with quantized weights has the bits of one with the weights that kernels/dtype makes of
// them, also the second time, when a device may have kept them in another form, and for windows on them.
func testMatMulQuantized(b *bench) {
	for _, typ := range []dtype.Type{dtype.I8, dtype.NF4} {
		for _, d := range [][4]int{{1, 1, 1, 4}, {3, 7, 5, 3}, {20, 33, 70, 64}, {150, 40, 64, 64}} {
			for variant := range 8 {
				quantizedCase(b, typ, d[0], d[1], d[2], d[3], variant)
			}
		}
	}
}

func quantizedCase(b *bench, typ dtype.Type, m, n, k, block, variant int) {
	b.Helper()
	rows, cols, o := k, n, kernels.MatMul{TB: variant&1 != 0}
	if o.TB {
		rows, cols = n, k
	}
	if variant&2 != 0 {
		o.Compute = dtype.BF16
	}
	w, plain := b.quantize(typ, b.rand(rows+1, cols), block)
	w.Frozen = variant&4 != 0
	w, plain = w.SliceRows(1, rows+1), plain.SliceRows(1, rows+1)
	x := b.put(b.rand(m, k), variant%3)
	c, want := b.put(b.base(m, n), 2), b.put(b.base(m, n), 0)
	b.s.MatMul(want, x, plain, o)
	for range 2 {
		b.s.MatMul(c, x, w, o)
		b.sameProduct(label(typ, " weights ", m, n, k, o.TB, o.Compute), b.get(c), b.get(want))
		b.s.Fill(c, 0)
	}
	b.done()
}

// quantize makes a quantized tensor with its own buffer, and the same as F32.
func (b *bench) quantize(typ dtype.Type, m mat, block int) (q, plain kernels.Tensor) {
	b.Helper()
	n := m.rows * m.cols
	x, absmax, codes := narrow(m.v), make([]float32, dtype.Blocks(n, block)), make([]byte, typ.Bytes(n))
	var err error
	if typ == dtype.I8 {
		signed := make([]int8, n)
		err = dtype.QuantizeI8(signed, absmax, x, block)
		for i, v := range signed {
			codes[i] = byte(v)
		}
		if err == nil {
			err = dtype.DequantizeI8(x, signed, absmax, block)
		}
	} else if err = dtype.QuantizeNF4(codes, absmax, x, block); err == nil {
		err = dtype.DequantizeNF4(x, codes, absmax, block)
	}
	if err != nil {
		b.Fatal(err)
	}
	scales := b.arena.F32(1, len(absmax))
	b.s.Upload(scales, absmax)
	q, err = kernels.Alloc(b.s.Device(), typ, 1, n)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { kernels.Free(b.s.Device(), q.Buf) })
	if err := b.s.Device().Write(q, codes); err != nil {
		b.Fatal(err)
	}
	plain = b.arena.F32(m.rows, m.cols)
	b.s.Upload(plain, x)
	q = q.Reshape(m.rows, m.cols)
	q.Q = &kernels.Quant{Absmax: scales, Block: block}
	return q, plain
}

// testFrozen: weights that a device may keep in another form are read anew once their buffer was freed.
func testFrozen(b *bench) {
	x := b.put(b.rand(5, 40), 0)
	for range 3 {
		m := b.rand(33, 40)
		w, err := kernels.Alloc(b.s.Device(), dtype.F32, 33, 40)
		if err != nil {
			b.Fatal(err)
		}
		b.s.Upload(w, narrow(m.v))
		c, want := b.arena.F32(5, 33), b.arena.F32(5, 33)
		b.s.MatMul(want, x, w, kernels.MatMul{TB: true})
		w.Frozen = true
		for range 2 {
			b.s.MatMul(c, x, w, kernels.MatMul{TB: true})
			b.sameProduct("frozen", b.get(c), b.get(want))
		}
		kernels.Free(b.s.Device(), w.Buf)
	}
	b.done()
}
