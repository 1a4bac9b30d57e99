package main

// The packing routines move lines of a matrix into panels. They need nothing beyond AVX and serve both sets.

const (
	quadsArgs = "(dst, src unsafe.Pointer, ld, width, quads, blocks int)"
	pairArgs  = "(dst, src unsafe.Pointer, ld, width, blocks int)"
	rowsArgs  = "(dst, src unsafe.Pointer, ld, width, depth int)"
)

// packing writes the routines that transpose words: float32, or two bfloat16 that change places on their way, because
// the multiply-add of pairs takes the upper one first. Registers: DI dst, SI src, DX and R13 one and three source lines, R8 and BX one and
// three panel rows, R9 quads left, R10 blocks; R11, R12, CX walk.
func packing(out *text, suffix string, swap bool) {
	load := func(i int, from string) {
		out.op("VMOVUPS", from, x(i))
		if swap {
			out.op("VPSHUFLW", "$0xB1", x(i), x(i))
			out.op("VPSHUFHW", "$0xB1", x(i), x(i))
		}
	}
	out.function("packQuads"+suffix, "func packQuads"+suffix+quadsArgs+": 4 lines at a time, blocks of 4 words", 48)
	loadPackArgs(out)
	out.op("MOVQ", "quads+32(FP)", "R9")
	out.op("MOVQ", "blocks+40(FP)", "R10")
	out.label("quad")
	walk(out, func() {
		for i, from := range []string{"(R11)", "(R11)(DX*1)", "(R11)(DX*2)", "(R11)(R13*1)"} {
			load(i, from)
		}
		out.op("VUNPCKLPS", x(1), x(0), x(4)) // a0 b0 a1 b1
		out.op("VUNPCKHPS", x(1), x(0), x(5)) // a2 b2 a3 b3
		out.op("VUNPCKLPS", x(3), x(2), x(6))
		out.op("VUNPCKHPS", x(3), x(2), x(7))
		out.op("VUNPCKLPD", x(6), x(4), x(0)) // a0 b0 c0 d0
		out.op("VUNPCKHPD", x(6), x(4), x(1))
		out.op("VUNPCKLPD", x(7), x(5), x(2))
		out.op("VUNPCKHPD", x(7), x(5), x(3))
		for i, to := range []string{"(R12)", "(R12)(R8*1)", "(R12)(R8*2)", "(R12)(BX*1)"} {
			out.op("VMOVUPS", x(i), to)
		}
	})
	out.op("LEAQ", "(SI)(DX*4)", "SI")
	out.op("ADDQ", "$16", "DI")
	out.op("DECQ", "R9")
	out.op("JNZ", "quad")
	out.end()

	out.function("packPair"+suffix, "func packPair"+suffix+pairArgs+": 2 lines", 40)
	loadPackArgs(out)
	out.op("MOVQ", "blocks+32(FP)", "R10")
	walk(out, func() {
		load(0, "(R11)")
		load(1, "(R11)(DX*1)")
		out.op("VUNPCKLPS", x(1), x(0), x(2))
		out.op("VUNPCKHPS", x(1), x(0), x(3))
		out.op("VMOVLPS", x(2), "(R12)")
		out.op("VMOVHPS", x(2), "(R12)(R8*1)")
		out.op("VMOVLPS", x(3), "(R12)(R8*2)")
		out.op("VMOVHPS", x(3), "(R12)(BX*1)")
	})
	out.end()
}

// packingRows writes the routine that copies.
func packingRows(out *text) {
	out.function("packRows", "func packRows"+rowsArgs+": copies", 40)
	loadPackArgs(out)
	out.op("MOVQ", "depth+32(FP)", "R10")
	out.op("MOVQ", "width+24(FP)", "BX")
	out.op("MOVQ", "BX", "R13")
	out.op("SHRQ", "$2", "R13") // quads
	out.op("ANDQ", "$2", "BX")  // a pair more
	out.label("line")
	out.op("MOVQ", "SI", "R11")
	out.op("MOVQ", "R13", "CX")
	out.label("quad")
	out.op("VMOVUPS", "(R11)", x(0))
	out.op("VMOVUPS", x(0), "(DI)")
	out.op("ADDQ", "$16", "R11")
	out.op("ADDQ", "$16", "DI")
	out.op("DECQ", "CX")
	out.op("JNZ", "quad")
	out.op("TESTQ", "BX", "BX")
	out.op("JZ", "next")
	out.op("MOVQ", "(R11)", "AX")
	out.op("MOVQ", "AX", "(DI)")
	out.op("ADDQ", "$8", "DI")
	out.label("next")
	out.op("ADDQ", "DX", "SI")
	out.op("DECQ", "R10")
	out.op("JNZ", "line")
	out.end()
}

// interleaving writes the routine that makes words of two bfloat16 from two lines each, the first in the upper half.
func interleaving(out *text) {
	out.function("packZip", "func packZip"+rowsArgs+": pairs of lines, blocks of 4 elements", 40)
	loadPackArgs(out)
	out.op("MOVQ", "depth+32(FP)", "R10")
	out.op("SHRQ", "$4", "R8") // blocks
	out.label("line")
	out.op("MOVQ", "SI", "R11")
	out.op("MOVQ", "R8", "CX")
	out.label("block")
	out.op("VMOVQ", "(R11)", x(0))
	out.op("VMOVQ", "(R11)(DX*1)", x(1))
	out.op("VPUNPCKLWD", x(0), x(1), x(0))
	out.op("VMOVUPS", x(0), "(DI)")
	out.op("ADDQ", "$8", "R11")
	out.op("ADDQ", "$16", "DI")
	out.op("DECQ", "CX")
	out.op("JNZ", "block")
	out.op("LEAQ", "(SI)(DX*2)", "SI")
	out.op("DECQ", "R10")
	out.op("JNZ", "line")
	out.end()
}

func loadPackArgs(out *text) {
	for _, arg := range []string{"dst+0(FP), DI", "src+8(FP), SI", "ld+16(FP), DX", "width+24(FP), R8"} {
		out.op("MOVQ", arg)
	}
	out.op("SHLQ", "$2", "R8")
	out.op("LEAQ", "(DX)(DX*2)", "R13")
	out.op("LEAQ", "(R8)(R8*2)", "BX")
}

// walk emits the loop over blocks of 4 elements of the lines at SI.
func walk(out *text, body func()) {
	out.op("MOVQ", "SI", "R11")
	out.op("MOVQ", "DI", "R12")
	out.op("MOVQ", "R10", "CX")
	out.label("block")
	body()
	out.op("ADDQ", "$16", "R11")
	out.op("LEAQ", "(R12)(R8*4)", "R12")
	out.op("DECQ", "CX")
	out.op("JNZ", "block")
}

func x(n int) string { return xmm.v(n) }

var xmm = isa{"AVX", "X", 16, 16}
