package main

// conversions between float32 and bfloat16, the upper half of a float32.
func conversions() []vectorKernel {
	return []vectorKernel{
		{field: "widen", operands: 2, outs: 1, halves: true, doc: "x0 = x1, which is bfloat16", body: func(b *builder, _ []int) {
			b.op("VPMOVZXWD", b.h(1), b.v(0))
			b.op("VPSLLD", "$16", b.v(0), b.v(0))
			b.store(0, 0)
		}},
		{field: "narrow", operands: 2, outs: 1, halves: true, doc: "x0, which is bfloat16, = x1 rounded", body: func(b *builder, _ []int) {
			b.load(1, 0)
			b.roundUpper()
			b.op("VPSRLD", "$16", b.v(0), b.v(0))
			if b.regs == 32 {
				b.op("VPMOVDW", b.v(0), b.h(0))
				return
			}
			b.op("VEXTRACTI128", "$1", b.v(0), xmm.v(1))
			b.op("VPACKUSDW", xmm.v(1), xmm.v(0), xmm.v(0))
			b.op("VMOVUPS", xmm.v(0), b.h(0))
		}},
		{field: "roundF16", operands: 2, outs: 1, doc: "x0 = x1 rounded to binary16", body: func(b *builder, _ []int) {
			half := xmm // every processor with AVX2 has these conversions
			if b.regs == 32 {
				half = ymm
			}
			b.load(1, 0)
			b.op("VCVTPS2PH", "$0", b.v(0), half.v(1))
			b.op("VCVTPH2PS", half.v(1), b.v(0))
			b.store(0, 0)
		}},
		{field: "round", operands: 2, outs: 1, doc: "x0 = x1 rounded to bfloat16", body: func(b *builder, _ []int) {
			b.load(1, 0)
			b.roundUpper()
			b.op("VPSRLD", "$16", b.v(0), b.v(0))
			b.op("VPSLLD", "$16", b.v(0), b.v(0))
			b.store(0, 0)
		}},
	}
}

// roundUpper rounds register 0 to its upper half, to nearest with ties to even; what is left below is not cleared. NaN
// becomes quiet and stays NaN, where the sum might carry into the sign.
func (b *builder) roundUpper() {
	and, or := "VPAND", "VPOR"
	if b.regs == 32 {
		and, or = "VPANDD", "VPORD"
	}
	b.op("VPSRLD", "$16", b.v(0), b.v(1))
	b.op(and, b.word("bit0", 1), b.v(1), b.v(1))
	b.op("VPADDD", b.word("below", 0x7fff), b.v(1), b.v(1))
	b.op("VPADDD", b.v(1), b.v(0), b.v(1))
	b.op(or, b.word("quiet", 0x400000), b.v(0), b.v(2))
	if b.regs == 32 {
		b.op("VCMPPS", "$3", b.v(0), b.v(0), "K1")
		b.op("VMOVDQA32", b.v(2), "K1", b.v(1))
		b.op("VMOVDQA32", b.v(1), b.v(0))
		return
	}
	b.op("VCMPPS", "$3", b.v(0), b.v(0), b.v(3))
	b.op("VBLENDVPS", b.v(3), b.v(2), b.v(1), b.v(0))
}
