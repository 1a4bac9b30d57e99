package main

import "fmt"

// Offsets in the args of kernels/cpu.
const (
	argN   = 0
	argX   = 8
	argF   = 48
	argAcc = 96
	argSum = 160
)

var pointers = []string{"R8", "R9", "R10", "R11", "R12"}

// builder writes one vector kernel for one instruction set. The body of a kernel is written for one register's worth
// of lanes and emitted for both halves of a group of 16 where registers have 8.
//
// Registers: AX args, CX elements left, SI bytes done of 32 bit operands, DI of 16 bit and BX of 8 bit ones, pointers as above; vectors 0 up are the body's, the highest are
// scalars and accumulators.
type builder struct {
	isa
	*text
	*pool
	half    int         // which half of the group the body is being emitted for
	top     int         // first vector register taken from above
	scalars map[int]int // registers of preloaded scalars
}

// groups is how many registers make 16 lanes.
func (b *builder) groups() int { return 16 / b.floats() }

// x is the memory operand of the body's lanes of operand i.
func (b *builder) x(i int) string {
	return fmt.Sprintf("%d(%s)(SI*1)", b.half*b.bytes, pointers[i])
}

// h is the memory operand of the body's lanes of operand i, which has 16 bit elements.
func (b *builder) h(i int) string {
	return fmt.Sprintf("%d(%s)(DI*1)", b.half*b.bytes/2, pointers[i])
}

func (b *builder) load(i, r int)  { b.op("VMOVUPS", b.x(i), b.v(r)) }
func (b *builder) store(r, i int) { b.op("VMOVUPS", b.v(r), b.x(i)) }

// take reserves a register at the top.
func (b *builder) take() int { b.top--; return b.top }

// f is the register of scalar i. Where registers are short it is loaded on the spot into the lowest reserved one, good
// until the next call.
func (b *builder) f(i int) string {
	if r, ok := b.scalars[i]; ok {
		return b.v(r)
	}
	b.op("VBROADCASTSS", mem(argF+4*i, "AX"), b.v(b.top))
	return b.v(b.top)
}

// preload puts scalars 0 to n-1 into registers, or reserves one for loading on the spot.
func (b *builder) preload(n int) {
	b.scalars = map[int]int{}
	if b.regs == 16 && n > 4 {
		b.take()
		return
	}
	for i := range n {
		b.scalars[i] = b.take()
		b.op("VBROADCASTSS", mem(argF+4*i, "AX"), b.v(b.scalars[i]))
	}
}

// The arithmetic of bodies: destination first, as in d = a - b. s is a register or a memory operand.

func (b *builder) add(d, a int, s string) { b.op("VADDPS", s, b.v(a), b.v(d)) }
func (b *builder) sub(d, a int, s string) { b.op("VSUBPS", s, b.v(a), b.v(d)) }
func (b *builder) mul(d, a int, s string) { b.op("VMULPS", s, b.v(a), b.v(d)) }
func (b *builder) div(d, a int, s string) { b.op("VDIVPS", s, b.v(a), b.v(d)) }

// fma is d += a·s, fnma d -= a·s, horner d = d·a + s.
func (b *builder) fma(d, a int, s string)    { b.op("VFMADD231PS", s, b.v(a), b.v(d)) }
func (b *builder) fnma(d, a int, s string)   { b.op("VFNMADD231PS", s, b.v(a), b.v(d)) }
func (b *builder) horner(d, a int, s string) { b.op("VFMADD213PS", s, b.v(a), b.v(d)) }

// fill loads a constant.
func (b *builder) fill(d int, constant string) { b.op("VMOVUPS", constant, b.v(d)) }

// vectorKernel is one kernel: its field in the family table, how many operands and scalars it has, which accumulators
// it keeps, and its body.
type vectorKernel struct {
	field    string
	operands int
	outs     int
	scalars  int
	acc      accumulator
	pad      string // Go expression, empty for zero
	halves   bool   // some operands have 16 bit elements
	bytes    bool   // some operands have 8 bit elements
	ahead    int    // bytes ahead that operands are fetched (384 was the best of 256 to 2048); 0: left to the processor
	doc      string
	body     func(b *builder, acc []int)
}

type accumulator int

const (
	none   accumulator = iota
	single             // 16 lanes of float32
	double             // 16 lanes of float64
)

func (k vectorKernel) function(s isa) string { return k.field + s.name }

func vectorFile() string {
	var out text
	var consts pool
	var code text
	for _, s := range []isa{avx512, avx2} {
		for _, k := range vectorKernels() {
			k.emit(s, &code, &consts)
		}
	}
	out.WriteString(header)
	out.WriteString(consts.String())
	out.WriteString(code.String())
	return out.String()
}

// emit writes the loop around the body.
func (k vectorKernel) emit(s isa, code *text, consts *pool) {
	b := &builder{isa: s, text: code, pool: consts, top: s.regs}
	b.text.function(k.function(s), fmt.Sprintf("func %s(a *args): %s", k.function(s), k.doc), 8)
	b.op("MOVQ", "a+0(FP)", "AX")
	b.op("MOVQ", mem(argN, "AX"), "CX")
	for i := range k.operands {
		b.op("MOVQ", mem(argX+8*i, "AX"), pointers[i])
	}
	b.op("XORQ", "SI", "SI")
	if k.halves {
		b.op("XORQ", "DI", "DI")
	}
	if k.bytes {
		b.op("XORQ", "BX", "BX")
	}
	accs := k.loadAccs(b)
	b.preload(k.scalars)
	b.label("group")
	b.op("CMPQ", "CX", "$16")
	b.op("JL", "done")
	for i := range k.operands {
		if k.ahead > 0 {
			b.op("PREFETCHT0", mem(k.ahead, pointers[i])+"(SI*1)")
		}
	}
	for b.half = range b.groups() {
		per := len(accs) / b.groups()
		k.body(b, accs[b.half*per:(b.half+1)*per])
	}
	b.op("ADDQ", "$64", "SI")
	if k.halves {
		b.op("ADDQ", "$32", "DI")
	}
	if k.bytes {
		b.op("ADDQ", "$16", "BX")
	}
	b.op("SUBQ", "$16", "CX")
	b.op("JMP", "group")
	b.label("done")
	k.moveAccs(b, accs, true)
	b.end()
}

func (k vectorKernel) loadAccs(b *builder) []int {
	n := []int{0, 64 / b.bytes, 128 / b.bytes}[k.acc]
	accs := make([]int, n)
	for i := range accs {
		accs[i] = b.take()
	}
	k.moveAccs(b, accs, false)
	return accs
}

func (k vectorKernel) moveAccs(b *builder, accs []int, out bool) {
	base := argAcc
	if k.acc == double {
		base = argSum
	}
	for i, r := range accs {
		from, to := mem(base+i*b.bytes, "AX"), b.v(r)
		if out {
			from, to = to, from
		}
		b.op("VMOVUPS", from, to)
	}
}
