package kernels

// ReLU is y = max(x, 0). y may be x.
func (s *Stream) ReLU(y, x Tensor) {
	must(alikeReal(y, x), OpReLU, y, x)
	s.put(Cmd{Op: OpReLU, T: [16]Tensor{y, x}})
}

// ReLUBack gives the gradient of ReLU's input: dy where x > 0, else 0. dx may be dy or x.
func (s *Stream) ReLUBack(dx, dy, x Tensor, mode Mode) {
	must(alikeReal(dx, dy, x), OpReLUBack, dx, dy, x)
	s.put(Cmd{Op: OpReLUBack, T: [16]Tensor{dx, dy, x}, I: [12]int32{int32(mode)}})
}

// Tanh is y = tanh(x). y may be x.
func (s *Stream) Tanh(y, x Tensor) {
	must(alikeReal(y, x), OpTanh, y, x)
	s.put(Cmd{Op: OpTanh, T: [16]Tensor{y, x}})
}

// TanhBack gives the gradient of Tanh's input from its output y: dy·(1-y²). dx may be dy or y.
func (s *Stream) TanhBack(dx, dy, y Tensor, mode Mode) {
	must(alikeReal(dx, dy, y), OpTanhBack, dx, dy, y)
	s.put(Cmd{Op: OpTanhBack, T: [16]Tensor{dx, dy, y}, I: [12]int32{int32(mode)}})
}

// OverRoot is dst = a/√v, and 0 where a is 0, whatever v: the root rounded once, then the quotient. It is an exact
// operation. dst may be a or v.
func (s *Stream) OverRoot(dst, a, v Tensor) {
	must(isF32(dst, -1, -1) && isF32(a, dst.Rows, dst.Cols) && isF32(v, dst.Rows, dst.Cols), OpOverRoot, dst, a, v)
	s.put(Cmd{Op: OpOverRoot, T: [16]Tensor{dst, a, v}})
}
