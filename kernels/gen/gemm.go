package main

import "fmt"

// tile is the shape of a microkernel: mr rows and nr columns of sums in registers.
type tile struct {
	isa
	mr, nr int
	temps  int // registers that broadcast elements of a take turns in
}

// The AVX-512 tile uses 24 registers for sums, 2 for a row of b and 6 for elements of a; the AVX2 tile 12, 2 and 2.
// Both have enough independent sums to cover the latency of two multiply-adds per cycle.
var tiles = []tile{{avx512, 12, 32, 6}, {avx2, 6, 16, 2}}

func (t tile) function() string { return fmt.Sprintf("gemm%dx%d%s", t.mr, t.nr, t.name) }

// unroll is how many steps along k the main loop does at a time.
const unroll = 4

func gemmFile() string {
	var out text
	out.WriteString(header)
	for _, t := range tiles {
		t.emit(&out)
		t.emitPeak(&out)
	}
	packing(&out)
	packingRows(&out)
	return out.String()
}

// emit writes the microkernel. Registers: AX a, BX b, CX c, DX bytes between rows of c, SI steps left.
func (t tile) emit(out *text) {
	out.function(t.function(), fmt.Sprintf("func %s(kc int, a, b, c *float32, ldc, add int)", t.function()), 48)
	for i, arg := range []string{"kc+0(FP), SI", "a+8(FP), AX", "b+16(FP), BX", "c+24(FP), CX", "ldc+32(FP), DX"} {
		out.op("MOVQ", arg)
		if i == 4 {
			out.op("SHLQ", "$2", "DX")
		}
	}
	t.start(out)
	out.label("blocks")
	out.op("CMPQ", "SI", imm(unroll))
	out.op("JL", "steps")
	for k := range unroll {
		t.step(out, k)
	}
	t.advance(out, unroll)
	out.op("JMP", "blocks")
	out.label("steps")
	out.op("TESTQ", "SI", "SI")
	out.op("JZ", "store")
	t.step(out, 0)
	t.advance(out, 1)
	out.op("JMP", "steps")
	out.label("store")
	t.eachRow(out, func(i, j int) { out.op("VMOVUPS", t.v(t.sum(i, j)), mem(j*t.bytes, "DI")) })
	out.end()
}

// start sets the sums to c or to zero.
func (t tile) start(out *text) {
	out.op("CMPQ", "add+40(FP)", "$0")
	out.op("JEQ", "zero")
	t.eachRow(out, func(i, j int) { out.op("VMOVUPS", mem(j*t.bytes, "DI"), t.v(t.sum(i, j))) })
	out.op("JMP", "blocks")
	out.label("zero")
	for i := range t.mr {
		for j := range t.across() {
			r := t.v(t.sum(i, j))
			out.op("VXORPS", r, r, r)
		}
	}
}

// eachRow walks the rows of c with DI.
func (t tile) eachRow(out *text, f func(i, j int)) {
	out.op("MOVQ", "CX", "DI")
	for i := range t.mr {
		for j := range t.across() {
			f(i, j)
		}
		if i+1 < t.mr {
			out.op("ADDQ", "DX", "DI")
		}
	}
}

// step is the k'th update of all sums from the pointers.
func (t tile) step(out *text, k int) {
	for j := range t.across() {
		out.op("VMOVUPS", mem(k*t.nr*4+j*t.bytes, "BX"), t.v(j))
	}
	for i := range t.mr {
		a := t.v(t.across() + i%t.temps)
		out.op("VBROADCASTSS", mem((k*t.mr+i)*4, "AX"), a)
		for j := range t.across() {
			out.op("VFMADD231PS", t.v(j), a, t.v(t.sum(i, j)))
		}
	}
}

func (t tile) advance(out *text, steps int) {
	out.op("ADDQ", imm(steps*t.mr*4), "AX")
	out.op("ADDQ", imm(steps*t.nr*4), "BX")
	out.op("SUBQ", imm(steps), "SI")
}

// across is how many registers hold a row of the tile.
func (t tile) across() int { return t.nr / t.floats() }

// sum is the register of row i, part j: the last ones.
func (t tile) sum(i, j int) int { return t.regs - t.mr*t.across() + i*t.across() + j }

// emitPeak writes a loop of multiply-adds on registers alone, two to a row of the tile: the most that this
// instruction set can do.
func (t tile) emitPeak(out *text) {
	out.function("peak"+t.name, fmt.Sprintf("func peak%s(rounds int)", t.name), 8)
	out.op("MOVQ", "rounds+0(FP)", "CX")
	for i := range t.regs {
		out.op("VXORPS", t.v(i), t.v(i), t.v(i))
	}
	out.label("round")
	for i := range t.mr {
		for j := range t.across() {
			out.op("VFMADD231PS", t.v(j), t.v(t.across()), t.v(t.sum(i, j)))
		}
	}
	out.op("DECQ", "CX")
	out.op("JNZ", "round")
	out.end()
}
