package main

import "fmt"

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
		out.op("PREFETCHT0", "(R11)(DX*4)") // the line four ahead; those behind it follow from their own turns
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

// packingRows writes the routines that copy, one for each width of panels. Lines ahead are fetched: they are too far
// apart for the processor to guess.
func packingRows(out *text) {
	for _, width := range copyWidths {
		out.function(copyRows(width), "func "+copyRows(width)+copyArgs+": copies", 32)
		for _, arg := range []string{"dst+0(FP), DI", "src+8(FP), SI", "ld+16(FP), DX", "depth+24(FP), R10"} {
			out.op("MOVQ", arg)
		}
		out.label("line")
		for at := 0; at < width*4; at += 64 {
			out.op("PREFETCHT0", mem(at, "SI")+"(DX*8)")
		}
		n := 0
		move := func(instruction string, r string, bytes int) {
			for ; width*4-n >= bytes; n += bytes {
				out.op(instruction, mem(n, "SI"), r)
				out.op(instruction, r, mem(n, "DI"))
			}
		}
		move("VMOVUPS", "Y0", 32)
		move("VMOVUPS", "X0", 16)
		move("MOVQ", "AX", 8)
		out.op("ADDQ", imm(width*4), "DI")
		out.op("ADDQ", "DX", "SI")
		out.op("DECQ", "R10")
		out.op("JNZ", "line")
		out.end()
	}
}

// copyWidths are those of the panels of all microkernels.
var copyWidths = []int{6, 12, 16, 32}

const copyArgs = "(dst, src unsafe.Pointer, ld, depth int)"

func copyRows(width int) string { return fmt.Sprintf("packRows%d", width) }

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

var (
	xmm = isa{"AVX", "X", 16, 16}
	ymm = isa{"AVX", "Y", 32, 16}
)

const fetchArgs = "(at unsafe.Pointer, lines int)"

// fetching writes the routine that brings cache lines into the second-level cache.
func fetching(out *text) {
	out.function("fetch", "func fetch"+fetchArgs+": cache lines", 16)
	out.op("MOVQ", "at+0(FP), SI")
	out.op("MOVQ", "lines+8(FP), CX")
	out.label("line")
	out.op("PREFETCHT1", "(SI)")
	out.op("ADDQ", "$64, SI")
	out.op("DECQ", "CX")
	out.op("JNZ", "line")
	out.op("RET")
}
