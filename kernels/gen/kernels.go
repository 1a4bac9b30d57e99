package main

import "slices"

// vectorKernels describes every kernel of a family. kernels/cpu/family.go says what the operands are, and
// kernels/cpu/generic.go has each as plain Go.
func vectorKernels() []vectorKernel {
	return slices.Concat(linear(), rowKernels(), curved(), conversions(), updates())
}

func linear() []vectorKernel {
	return []vectorKernel{
		{field: "add", operands: 3, outs: 1, doc: "x0 = x1 + x2", body: func(b *builder, _ []int) {
			b.load(1, 0)
			b.add(0, 0, b.x(2))
			b.store(0, 0)
		}},
		{field: "mul", operands: 3, outs: 1, doc: "x0 = x1·x2", body: func(b *builder, _ []int) {
			b.load(1, 0)
			b.mul(0, 0, b.x(2))
			b.store(0, 0)
		}},
		{field: "mulAdd", operands: 3, outs: 1, doc: "x0 += x1·x2, fused", body: func(b *builder, _ []int) {
			b.load(0, 0)
			b.load(1, 1)
			b.fma(0, 1, b.x(2))
			b.store(0, 0)
		}},
		{field: "scale", operands: 2, outs: 1, scalars: 1, doc: "x0 = f0·x1", body: func(b *builder, _ []int) {
			b.load(1, 0)
			b.mul(0, 0, b.f(0))
			b.store(0, 0)
		}},
		{field: "axpy", operands: 2, outs: 1, scalars: 1, doc: "x0 += f0·x1, fused", body: func(b *builder, _ []int) {
			b.load(0, 0)
			b.load(1, 1)
			b.fma(0, 1, b.f(0))
			b.store(0, 0)
		}},
		{field: "scaleAdd", operands: 2, outs: 1, scalars: 1, doc: "x0 += f0·x1, rounded twice", body: func(b *builder, _ []int) {
			b.load(1, 0)
			b.mul(0, 0, b.f(0))
			b.add(0, 0, b.x(0))
			b.store(0, 0)
		}},
		{field: "quotient", operands: 2, outs: 1, scalars: 1, doc: "x0 = x1/f0", body: func(b *builder, _ []int) {
			b.load(1, 0)
			b.div(0, 0, b.f(0))
			b.store(0, 0)
		}},
		{field: "affine", operands: 2, outs: 1, scalars: 2, doc: "x0 = (x1-f0)·f1", body: func(b *builder, _ []int) {
			b.load(1, 0)
			b.sub(0, 0, b.f(0))
			b.mul(0, 0, b.f(1))
			b.store(0, 0)
		}},
		{field: "dot", operands: 2, acc: single, doc: "acc += x0·x1, fused", body: func(b *builder, acc []int) {
			b.load(0, 0)
			b.fma(acc[0], 0, b.x(1))
		}},
		{field: "sum", operands: 1, acc: single, doc: "acc += x0", body: func(b *builder, acc []int) {
			b.add(acc[0], acc[0], b.x(0))
		}},
		{field: "max", operands: 1, acc: single, pad: "negInf", doc: "acc = x0 where x0 > acc", body: func(b *builder, acc []int) {
			b.load(0, 0)
			b.op("VMAXPS", b.v(acc[0]), b.v(0), b.v(acc[0]))
		}},
		{field: "sumSq", operands: 1, acc: double, doc: "sum += x0² in double precision", body: sumSq},
		{field: "traffic", operands: 4, outs: 3, doc: "x0, x1, x2 += x3", body: func(b *builder, _ []int) {
			b.load(3, 0)
			for i := range 3 {
				b.add(1, 0, b.x(i))
				b.store(1, i)
			}
		}},
		{field: "adamw", operands: 4, outs: 3, scalars: 9, ahead: 384, doc: "one step of AdamW; x0 w, x1 m, x2 v, x3 g", body: adamw},
	}
}

// sumSq widens half a register at a time.
func sumSq(b *builder, acc []int) {
	for i := range 2 {
		offset := b.half*b.bytes + i*b.bytes/2
		b.op("VCVTPS2PD", mem(offset, pointers[0])+"(SI*1)", b.v(0))
		b.op("VFMADD231PD", b.v(0), b.v(0), b.v(acc[i])) // the product is exact: fusing changes nothing
	}
}

// adamw: every operation is rounded by itself, in the order of Stream.AdamW.
func adamw(b *builder, _ []int) {
	b.load(3, 0)
	b.mul(0, 0, b.f(0)) // g' = g·h0
	b.load(1, 1)
	b.mul(1, 1, b.f(2))
	b.mul(2, 0, b.f(3))
	b.add(1, 1, b.v(2)) // m = h2·m + h3·g'
	b.store(1, 1)
	b.mul(0, 0, b.v(0))
	b.mul(0, 0, b.f(5))
	b.load(2, 2)
	b.mul(2, 2, b.f(4))
	b.add(2, 2, b.v(0)) // v = h4·v + h5·(g'·g')
	b.store(2, 2)
	b.op("VSQRTPS", b.v(2), b.v(2))
	b.div(2, 2, b.f(6))
	b.add(2, 2, b.f(7))
	b.div(1, 1, b.v(2))
	b.mul(1, 1, b.f(8))
	b.load(0, 0)
	b.mul(0, 0, b.f(1))
	b.sub(0, 0, b.v(1)) // w = w·h1 - h8·(m/(√v/h6 + h7))
	b.store(0, 0)
}

func rowKernels() []vectorKernel {
	rmsBack := func(add bool) func(*builder, []int) {
		return func(b *builder, _ []int) {
			b.load(3, 0)
			b.add(0, 0, b.f(1))
			b.mul(0, 0, b.x(1)) // t = x1·(x3+f1)
			b.mul(0, 0, b.f(0))
			b.load(2, 1)
			b.fnma(0, 1, b.f(2))
			b.addTo(add, 0, 0)
			b.store(0, 0)
		}
	}
	lnBack := func(add bool) func(*builder, []int) {
		return func(b *builder, _ []int) {
			b.load(1, 0)
			b.sub(0, 0, b.f(0))
			b.load(2, 1)
			b.fnma(0, 1, b.f(1))
			b.mul(0, 0, b.f(2))
			b.addTo(add, 0, 0)
			b.store(0, 0)
		}
	}
	return []vectorKernel{
		{field: "normScale", operands: 3, outs: 1, scalars: 2, doc: "x0 = (x1·f0)·(x2+f1)", body: func(b *builder, _ []int) {
			b.load(1, 0)
			b.mul(0, 0, b.f(0))
			b.load(2, 1)
			b.add(1, 1, b.f(1))
			b.mul(0, 0, b.v(1))
			b.store(0, 0)
		}},
		{field: "normScaleBias", operands: 4, outs: 1, scalars: 2, doc: "x0 = ((x1-f0)·f1)·x2 + x3, the last fused", body: func(b *builder, _ []int) {
			b.load(1, 0)
			b.sub(0, 0, b.f(0))
			b.mul(0, 0, b.f(1))
			b.load(3, 1)
			b.fma(1, 0, b.x(2))
			b.store(1, 0)
		}},
		{field: "rmsDot", operands: 3, scalars: 1, acc: single, doc: "acc += (x0·(x2+f0))·x1, the last fused", body: func(b *builder, acc []int) {
			b.load(2, 0)
			b.add(0, 0, b.f(0))
			b.mul(0, 0, b.x(0))
			b.fma(acc[0], 0, b.x(1))
		}},
		{field: "rmsBack", operands: 4, outs: 1, scalars: 3, doc: "x0 = f0·(x1·(x3+f1)) - f2·x2, the last fused", body: rmsBack(false)},
		{field: "rmsBackAdd", operands: 4, outs: 1, scalars: 3, doc: "x0 += f0·(x1·(x3+f1)) - f2·x2", body: rmsBack(true)},
		{field: "rmsWeight", operands: 3, outs: 1, scalars: 1, doc: "x0 += (x1·f0)·x2, fused", body: func(b *builder, _ []int) {
			b.load(1, 0)
			b.mul(0, 0, b.f(0))
			b.load(0, 1)
			b.fma(1, 0, b.x(2))
			b.store(1, 0)
		}},
		{field: "lnBack", operands: 3, outs: 1, scalars: 3, doc: "x0 = ((x1-f0) - f1·x2)·f2, the middle fused", body: lnBack(false)},
		{field: "lnBackAdd", operands: 3, outs: 1, scalars: 3, doc: "x0 += ((x1-f0) - f1·x2)·f2", body: lnBack(true)},
		{field: "lnWeight", operands: 3, outs: 1, scalars: 2, doc: "x0 += ((x1-f0)·f1)·x2, fused", body: func(b *builder, _ []int) {
			b.load(1, 0)
			b.sub(0, 0, b.f(0))
			b.mul(0, 0, b.f(1))
			b.load(0, 1)
			b.fma(1, 0, b.x(2))
			b.store(1, 0)
		}},
		{field: "softBack", operands: 3, outs: 1, scalars: 2, doc: "x0 = (x1·(x2-f0))·f1", body: func(b *builder, _ []int) {
			b.load(2, 0)
			b.sub(0, 0, b.f(0))
			b.mul(0, 0, b.x(1))
			b.mul(0, 0, b.f(1))
			b.store(0, 0)
		}},
	}
}
