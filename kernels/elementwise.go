package kernels

import "github.com/seed-7b27c88a/shoal/kernels/dtype"

// Fill sets every element of x, of any type that is not quantized, to v.
func (s *Stream) Fill(x Tensor, v float32) {
	must(!x.None() && plain(x.Type), OpFill, x)
	s.put(Cmd{Op: OpFill, T: [16]Tensor{x}, F: [4]float32{v}})
}

// Copy converts src to dst's type: narrower types round to nearest, ties to even. Same shape; not quantized.
func (s *Stream) Copy(dst, src Tensor) {
	must(!dst.None() && plain(dst.Type) && plain(src.Type) && is(src, src.Type, dst.Rows, dst.Cols), OpCopy, dst, src)
	s.put(Cmd{Op: OpCopy, T: [16]Tensor{dst, src}})
}

// Add is dst = a + b. dst may be a or b.
func (s *Stream) Add(dst, a, b Tensor) {
	must(alikeReal(dst, a, b), OpAdd, dst, a, b)
	s.put(Cmd{Op: OpAdd, T: [16]Tensor{dst, a, b}})
}

// Mul is dst = a * b element by element; a (1, C) b is used for every row. Add mode fuses the multiply and the add.
// dst may be a or b.
func (s *Stream) Mul(dst, a, b Tensor, mode Mode) {
	must(alikeReal(dst, a) && (isReal(b, 1, a.Cols) || alikeReal(a, b)), OpMul, dst, a, b)
	s.put(Cmd{Op: OpMul, T: [16]Tensor{dst, a, b}, I: [12]int32{int32(mode)}})
}

// Scale is dst = f * src. Add mode fuses the multiply and the add. dst may be src.
func (s *Stream) Scale(dst, src Tensor, f float32, mode Mode) {
	must(alikeReal(dst, src), OpScale, dst, src)
	s.put(Cmd{Op: OpScale, T: [16]Tensor{dst, src}, I: [12]int32{int32(mode)}, F: [4]float32{f}})
}

// SumRows is dst (1, C) = the sum of the rows of x, first row first.
func (s *Stream) SumRows(dst, x Tensor, mode Mode) {
	must(isReal(x, -1, -1) && isF32(dst, 1, x.Cols), OpSumRows, dst, x)
	s.put(Cmd{Op: OpSumRows, T: [16]Tensor{dst, x}, I: [12]int32{int32(mode)}})
}

// SwiGLU is y = gate·sigmoid(gate)·up (Shazeer 2020, arXiv:2002.05202). y may be gate or up.
func (s *Stream) SwiGLU(y, gate, up Tensor) {
	must(alikeReal(y, gate, up), OpSwiGLU, y, gate, up)
	s.put(Cmd{Op: OpSwiGLU, T: [16]Tensor{y, gate, up}})
}

// SwiGLUBack gives the gradients of SwiGLU's inputs. dgate and dup may be dy, gate or up.
func (s *Stream) SwiGLUBack(dgate, dup, dy, gate, up Tensor, mode Mode) {
	must(alikeReal(dgate, dup, dy, gate, up), OpSwiGLUBack, dgate, dup, dy, gate, up)
	s.put(Cmd{Op: OpSwiGLUBack, T: [16]Tensor{dgate, dup, dy, gate, up}, I: [12]int32{int32(mode)}})
}

// GELU is y = x/2·(1+tanh(√(2/π)(x+0.044715x³))) (Hendrycks & Gimpel 2016, arXiv:1606.08415). y may be x.
func (s *Stream) GELU(y, x Tensor) {
	must(alikeReal(y, x), OpGELU, y, x)
	s.put(Cmd{Op: OpGELU, T: [16]Tensor{y, x}})
}

// GELUBack gives the gradient of GELU's input. dx may be dy or x.
func (s *Stream) GELUBack(dx, dy, x Tensor, mode Mode) {
	must(alikeReal(dx, dy, x), OpGELUBack, dx, dy, x)
	s.put(Cmd{Op: OpGELUBack, T: [16]Tensor{dx, dy, x}, I: [12]int32{int32(mode)}})
}

// Drop is y = x·mask/(1-Rate), and with dy for x its own backward. y may be x in Set mode.
//
// The mask of an element is a pure function, equal on all backends. With mix the finalizer of splitmix64 and Key
// (position, token) of the row, in 64 bit unsigned arithmetic:
//
//	h = mix(mix(mix(Seed + step) ^ (position<<32 | token)) ^ Site)
//	u = mix(h + column·0x9E3779B97F4A7C15) >> 40        // 24 bits
//	keep = u >= round(Rate·2²⁴)
func (s *Stream) Drop(y, x Tensor, o Dropout, mode Mode) {
	must(alikeReal(y, x) && is(o.Step, dtype.I32, 1, 1) && is(o.Key, dtype.I32, x.Rows, 2) && o.Rate >= 0 && o.Rate < 1,
		OpDrop, y, x, o.Step, o.Key)
	s.put(Cmd{Op: OpDrop, T: [16]Tensor{y, x, o.Step, o.Key},
		I: [12]int32{int32(mode), int32(uint32(o.Seed)), int32(uint32(o.Seed >> 32)), o.Site}, F: [4]float32{o.Rate}})
}

// plain reports whether elements of the type stand for themselves.
func plain(t dtype.Type) bool {
	switch t {
	case dtype.F32, dtype.BF16, dtype.F16, dtype.I32, dtype.F64:
		return true
	}
	return false
}
