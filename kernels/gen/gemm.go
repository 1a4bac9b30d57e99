package main

import "fmt"

// tile is the shape of a microkernel: mr rows and nr columns of sums in registers.
type tile struct {
	isa
	mr, nr int
	panel  int  // rows of a's panels, of which the tile has the first mr
	temps  int  // registers that broadcast elements of a take turns in
	pairs  bool // words are two bfloat16
}

// The AVX-512 tile uses 24 registers for sums, 2 for a row of b and 6 for elements of a; the AVX2 tile 12, 2 and 2.
// Both have enough independent sums to cover the latency of two multiply-adds per cycle.
var tiles = []tile{{isa: avx512, mr: 12, nr: 32, panel: 12, temps: 6}, {isa: avx2, mr: 6, nr: 16, panel: 6, temps: 2}}

// slimTile is for c of few columns. Its 12 sums are enough to cover the latency too, but it loads twice as often.
var slimTile = tile{isa: avx512, mr: 12, nr: 16, panel: 12, temps: 6}

// pairTile and slimPairTile are the same of words of two bfloat16, with half the steps.
var slimPairTile = tile{isa: isa{"BF16", "Z", 64, 32}, mr: 12, nr: 16, panel: 12, temps: 6, pairs: true}
var pairTile = tile{isa: isa{"BF16", "Z", 64, 32}, mr: 12, nr: 32, panel: 12, temps: 6, pairs: true}

func allTiles() []tile { return append(tiles, slimTile, pairTile, slimPairTile) }

func (t tile) function() string { return fmt.Sprintf("gemm%dx%d%s", t.mr, t.nr, t.name) }

// fewer are the tiles for the last panel of a, and for products of a few rows.
func (t tile) fewer() (out []tile) {
	for rows := 1; rows < t.mr; rows *= 2 {
		f := t
		f.mr = rows
		out = append(out, f)
	}
	return out
}

// multiplyAdd is c += a·b, for words of pairs the upper product first.
func (t tile) multiplyAdd(out *text, b, a, c int) {
	if t.pairs {
		out.dotPairs(b, a, c)
		return
	}
	out.op("VFMADD231PS", t.v(b), t.v(a), t.v(c))
}

// dotPairs is VDPBF16PS, which the Go assembler does not know: EVEX.512.F3.0F38.W0 52 /r. Each product is added by a
// fused multiply-add of its own.
func (t *text) dotPairs(b, a, c int) {
	bit := func(n, i, to int) uint32 { return uint32(^n>>i&1) << to } // EVEX has its high register bits inverted
	p0 := 2 | bit(c, 3, 7) | bit(b, 4, 6) | bit(b, 3, 5) | bit(c, 4, 4)
	p1 := 6 | uint32(^a&15)<<3
	p2 := 0x40 | bit(a, 4, 3)
	fmt.Fprintf(t, "\tLONG $0x%08x; WORD $0x%04x // VDPBF16PS Z%d, Z%d, Z%d\n",
		0x62|p0<<8|p1<<16|p2<<24, 0x52|uint32(0xc0|c&7<<3|b&7)<<8, b, a, c)
}

// unroll is how many steps along k the main loop does at a time.
const unroll = 4

func gemmFile() string {
	var out text
	out.WriteString(header)
	for _, t := range allTiles() {
		t.emit(&out)
		for _, f := range t.fewer() {
			f.emit(&out)
		}
	}
	for _, t := range append(tiles, pairTile) {
		t.emitPeak(&out)
	}
	packing(&out, "", false)
	packing(&out, "Swap", true)
	packingRows(&out)
	interleaving(&out)
	fetching(&out)
	return out.String()
}

// emit writes the microkernel. Registers: AX a, BX b, CX c, DX bytes between rows of c, R8 what to fetch for the next
// panel of a, R9 of the next tile of c, a row for each of the first blocks of steps; SI steps left.
func (t tile) emit(out *text) {
	out.function(t.function(), fmt.Sprintf("func %s(kc int, a, b, c *float32, ldc, add int, next, then *float32)", t.function()), 64)
	for i, arg := range []string{"kc+0(FP), SI", "a+8(FP), AX", "b+16(FP), BX", "c+24(FP), CX", "ldc+32(FP), DX", "next+48(FP), R8", "then+56(FP), R9"} {
		out.op("MOVQ", arg)
		if i == 4 {
			out.op("SHLQ", "$2", "DX")
		}
	}
	t.start(out)
	out.label("fetching")
	out.op("CMPQ", "SI", imm(unroll*t.mr))
	out.op("JL", "blocks")
	out.op("MOVQ", imm(t.mr), "DI")
	out.label("fetch")
	for j := range t.across() {
		out.op("PREFETCHT0", mem(j*t.bytes, "R9"))
	}
	out.op("ADDQ", "DX", "R9")
	t.block(out)
	out.op("DECQ", "DI")
	out.op("JNZ", "fetch")
	out.label("blocks")
	out.op("CMPQ", "SI", imm(unroll))
	out.op("JL", "steps")
	t.block(out)
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

// block is unroll steps.
func (t tile) block(out *text) {
	for at := 0; at < unroll*t.panel*4; at += 64 {
		out.op("PREFETCHT0", mem(at, "R8"))
	}
	for k := range unroll {
		t.step(out, k)
	}
	t.advance(out, unroll)
}

// start sets the sums to c or to zero.
func (t tile) start(out *text) {
	out.op("CMPQ", "add+40(FP)", "$0")
	out.op("JEQ", "zero")
	t.eachRow(out, func(i, j int) { out.op("VMOVUPS", mem(j*t.bytes, "DI"), t.v(t.sum(i, j))) })
	out.op("JMP", "fetching")
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
		a := t.across() + i%t.temps
		out.op("VBROADCASTSS", mem((k*t.panel+i)*4, "AX"), t.v(a))
		for j := range t.across() {
			t.multiplyAdd(out, j, a, t.sum(i, j))
		}
	}
}

func (t tile) advance(out *text, steps int) {
	out.op("ADDQ", imm(steps*t.panel*4), "AX")
	out.op("ADDQ", imm(steps*t.nr*4), "BX")
	out.op("ADDQ", imm(steps*t.panel*4), "R8")
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
			t.multiplyAdd(out, j, t.across(), t.sum(i, j))
		}
	}
	out.op("DECQ", "CX")
	out.op("JNZ", "round")
	out.end()
}
