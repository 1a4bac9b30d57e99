package main

import "fmt"

// updates are the kernels of optimizers besides AdamW: each operation is rounded by itself, in the order that
// kernels.Stream gives, and nothing is fused.
func updates() []vectorKernel {
	return []vectorKernel{
		{field: "lion", operands: 3, outs: 2, scalars: 7, ahead: 384, doc: "one step of Lion; x0 w, x1 m, x2 g", body: lion},
		{field: "sgd", operands: 2, outs: 1, scalars: 3, ahead: 384, doc: "one step of SGD; x0 w, x1 g", body: func(b *builder, _ []int) {
			b.decayed(1)
			b.mul(1, 1, b.f(2))
			b.sub(0, 0, b.v(1))
			b.store(0, 0)
		}},
		{field: "momentum", operands: 3, outs: 2, scalars: 6, ahead: 384, doc: "one step of SGD with momentum; x0 w, x1 m, x2 g", body: momentum},
		{field: "sophia", operands: 4, outs: 2, scalars: 7, ahead: 384, doc: "one step of Sophia; x0 w, x1 m, x2 h, x3 g", body: sophia},
		{field: "averageSquares", operands: 2, outs: 1, scalars: 2, doc: "x0 = f0·x0 + f1·x1²", body: func(b *builder, _ []int) {
			b.load(1, 0)
			b.mul(0, 0, b.v(0))
			b.mul(0, 0, b.f(1))
			b.load(0, 1)
			b.mul(1, 1, b.f(0))
			b.add(0, 1, b.v(0))
			b.store(0, 0)
		}},
		{field: "squares", operands: 2, outs: 1, scalars: 2, doc: "x0 = (x1·f0)² + f1", body: func(b *builder, _ []int) {
			b.square()
			b.store(0, 0)
		}},
		{field: "addSquares", operands: 2, outs: 1, scalars: 2, doc: "x0 += (x1·f0)² + f1", body: func(b *builder, _ []int) {
			b.square()
			b.add(0, 0, b.x(0))
			b.store(0, 0)
		}},
		{field: "absMax", operands: 1, acc: single, doc: "acc = |x0| where |x0| > acc", body: func(b *builder, acc []int) {
			b.load(0, 0)
			b.abs(0, 0)
			b.op("VMAXPS", b.v(acc[0]), b.v(0), b.v(acc[0]))
		}},
		{field: "decode", operands: 3, outs: 1, scalars: 1, bytes: true, doc: "x0 = x2[x1]·f0 + 0; x1 has bytes", body: decode},
		{field: "encode", operands: 4, outs: 1, scalars: 1, bytes: true, doc: "x0, bytes, = codes of x1/f0; x2 first codes, x3 upper ends", body: encode(false)},
		{field: "encodeSigned", operands: 4, outs: 1, scalars: 1, bytes: true, doc: "encode for numbers of both signs", body: encode(true)},
	}
}

// lion follows the order of Stream.Lion.
func lion(b *builder, _ []int) {
	b.load(2, 0)
	b.mul(0, 0, b.f(0)) // g' = g·h0
	b.load(1, 1)
	b.mul(2, 1, b.f(2))
	b.mul(3, 0, b.f(3))
	b.add(2, 2, b.v(3)) // c = h2·m + h3·g'
	b.mul(1, 1, b.f(4))
	b.mul(0, 0, b.f(5))
	b.add(1, 1, b.v(0)) // m = h4·m + h5·g'
	b.store(1, 1)
	b.op("VANDPS", b.word("sign", 1<<31), b.v(2), b.v(3))
	b.op("VORPS", b.f(6), b.v(3), b.v(3))
	b.op("VXORPS", b.v(0), b.v(0), b.v(0))
	if b.regs == 32 { // nothing where c is 0 or NaN
		b.op("VCMPPS", "$12", b.v(0), b.v(2), "K1")
		b.op("VMOVUPS.Z", b.v(3), "K1", b.v(3))
	} else {
		b.op("VCMPPS", "$12", b.v(0), b.v(2), b.v(0))
		b.op("VANDPS", b.v(0), b.v(3), b.v(3))
	}
	b.load(0, 0)
	b.mul(0, 0, b.f(1))
	b.sub(0, 0, b.v(3)) // w = w·h1 - h6·sign(c)
	b.store(0, 0)
}

// decayed leaves w in register 0 and g·f0 + w·f1 in register 1; g is operand i.
func (b *builder) decayed(i int) {
	b.load(i, 1)
	b.mul(1, 1, b.f(0))
	b.load(0, 0)
	b.mul(2, 0, b.f(1))
	b.add(1, 1, b.v(2))
}

// momentum follows the order of Stream.SGD.
func momentum(b *builder, _ []int) {
	b.decayed(2)
	b.load(1, 2)
	b.mul(2, 2, b.f(3))
	b.add(2, 2, b.v(1)) // m = h3·m + g'
	b.store(2, 1)
	b.mul(1, 1, b.f(4))
	b.mul(2, 2, b.f(5))
	b.add(1, 1, b.v(2))
	b.mul(1, 1, b.f(2))
	b.sub(0, 0, b.v(1)) // w = w - h2·(h4·g' + h5·m)
	b.store(0, 0)
}

// sophia follows the order of Stream.Sophia.
func sophia(b *builder, _ []int) {
	b.load(3, 0)
	b.mul(0, 0, b.f(0))
	b.mul(0, 0, b.f(3))
	b.load(1, 1)
	b.mul(1, 1, b.f(2))
	b.add(1, 1, b.v(0)) // m = h2·m + h3·g'
	b.store(1, 1)
	b.load(2, 2)
	b.mul(2, 2, b.f(5))
	b.add(2, 2, b.f(6))
	b.abs(0, 1)
	b.div(0, 0, b.v(2))
	b.atMostOne(0, 2)
	b.mul(0, 0, b.f(4))
	b.op("VANDPS", b.word("sign", 1<<31), b.v(1), b.v(1))
	b.op("VXORPS", b.v(1), b.v(0), b.v(0))
	b.load(0, 1)
	b.mul(1, 1, b.f(1))
	b.sub(0, 1, b.v(0)) // w = w·h1 - sign(m)·h4·min(|m|/(h5·h + h6), 1)
	b.store(0, 0)
}

// square is (x1·f0)² + f1 in register 0.
func (b *builder) square() {
	b.load(1, 0)
	b.mul(0, 0, b.f(0))
	b.mul(0, 0, b.v(0))
	b.add(0, 0, b.f(1))
}

// abs is d = |x|.
func (b *builder) abs(d, x int) { b.op("VANDPS", b.word("magnitude", 1<<31-1), b.v(x), b.v(d)) }

// atMostOne is x = min(x, 1), and 1 where x is NaN; t is scratch.
func (b *builder) atMostOne(x, t int) {
	b.fill(t, b.float("one", 1))
	b.op("VMINPS", b.v(t), b.v(x), b.v(x))
}

// c is the memory operand of the body's lanes of operand i, which has elements of 8 bits.
func (b *builder) c(i int) string {
	return fmt.Sprintf("%d(%s)(BX*1)", b.half*b.bytes/4, pointers[i])
}

// gather is d = 32 bits at operand i, index·scale bytes on; t is scratch.
func (b *builder) gather(op string, d, i, index, scale, t int) {
	at := fmt.Sprintf("(%s)(%s*%d)", pointers[i], b.v(index), scale)
	if b.regs == 32 {
		b.op("KXNORW", "K1", "K1", "K1")
		b.op(op, at, "K1", b.v(d))
		return
	}
	b.op("VPCMPEQD", b.v(t), b.v(t), b.v(t))
	b.op(op, b.v(t), at, b.v(d))
}

func decode(b *builder, _ []int) {
	b.op("VPMOVZXBD", b.c(1), b.v(0))
	b.gather("VGATHERDPS", 1, 2, 0, 4, 2)
	b.mul(1, 1, b.f(0))
	b.op("VXORPS", b.v(0), b.v(0), b.v(0))
	b.add(1, 1, b.v(0)) // no negative zero
	b.store(1, 0)
}

// encode finds the code of y = |x1/f0|, at most 1: its upper bits name a cell, x2 has the code that the cell begins
// with, and x3 up to where each code reaches; a cell holds one such end at most.
func encode(signed bool) func(b *builder, _ []int) {
	and := map[int]string{32: "VPANDD", 16: "VPAND"}
	xor := map[int]string{32: "VPXORD", 16: "VPXOR"}
	return func(b *builder, _ []int) {
		b.load(1, 0)
		b.div(0, 0, b.f(0))
		b.abs(1, 0)
		b.atMostOne(1, 2)
		b.op("VPSRLD", "$16", b.v(1), b.v(2))
		b.op("VPSUBD", b.word("cell0", 104<<7), b.v(2), b.v(2))
		b.op("VPXOR"+b.suffix(), b.v(3), b.v(3), b.v(3))
		b.op("VPMAXSD", b.v(3), b.v(2), b.v(2))
		b.gather("VPGATHERDD", 4, 2, 2, 1, 3)
		b.op(and[b.regs], b.word("byte", 255), b.v(4), b.v(2))
		b.gather("VGATHERDPS", 3, 3, 2, 4, 4)
		if b.regs == 32 {
			b.op("VCMPPS", "$30", b.v(3), b.v(1), "K1")
			b.op("VPADDD", b.word("bit0", 1), b.v(2), "K1", b.v(2))
		} else {
			b.op("VCMPPS", "$30", b.v(3), b.v(1), b.v(1))
			b.op("VPSUBD", b.v(1), b.v(2), b.v(2))
		}
		if signed { // code 127 is 0, with 128 codes above and 127 below it
			b.op("VPSRAD", "$31", b.v(0), b.v(0))
			b.op("VPADDD", b.word("above", 128), b.v(0), b.v(1))
			b.op("VPMINSD", b.v(1), b.v(2), b.v(2))
			b.op(xor[b.regs], b.v(0), b.v(2), b.v(2))
			b.op("VPSUBD", b.v(0), b.v(2), b.v(2))
			b.op("VPADDD", b.word("code0", 127), b.v(2), b.v(2))
		}
		b.storeBytes(2)
	}
}

// suffix is what integer bit operations are called by on wide registers.
func (b *builder) suffix() string {
	if b.regs == 32 {
		return "D"
	}
	return ""
}

// storeBytes stores the lowest bytes of register r to operand 0.
func (b *builder) storeBytes(r int) {
	if b.regs == 32 {
		b.op("VPMOVDB", b.v(r), b.c(0))
		return
	}
	b.op("VPAND", b.word("byte", 255), b.v(r), b.v(r))
	b.op("VEXTRACTI128", "$1", b.v(r), xmm.v(1))
	b.op("VPACKUSDW", xmm.v(1), xmm.v(r), xmm.v(r))
	b.op("VPACKUSWB", xmm.v(r), xmm.v(r), xmm.v(r))
	b.op("VMOVQ", xmm.v(r), b.c(0))
}
