package kernels

import "github.com/seed-7b27c88a/shoal/kernels/dtype"

// EncodeWire stores x F32 (1, N) in a form that travels, as dtype.Wire writes it: code is (1, Bytes(N)) of type I8. It is
// an exact operation. What a device encodes itself is fewer bytes on their way out of it.
func (s *Stream) EncodeWire(code, x Tensor, form dtype.Wire) {
	must(isF32(x, 1, -1) && wired(code, form, x.Cols), OpEncodeWire, code, x)
	s.put(Cmd{Op: OpEncodeWire, T: [16]Tensor{code, x}, I: [12]int32{int32(form)}})
}

// DecodeWire is what EncodeWire stored: the byte times the scale of its block, rounded once, or the bfloat16 number.
func (s *Stream) DecodeWire(x, code Tensor, form dtype.Wire) {
	must(isF32(x, 1, -1) && wired(code, form, x.Cols), OpDecodeWire, x, code)
	s.put(Cmd{Op: OpDecodeWire, T: [16]Tensor{x, code}, I: [12]int32{int32(form)}})
}

// wired reports whether code has the size of n elements in a form. It starts where a float32 could.
func wired(code Tensor, form dtype.Wire, n int) bool {
	return form.Valid() && is(code, dtype.I8, 1, form.Bytes(n)) && code.Off%4 == 0
}

// DownloadBytes waits for what was appended before and reads a packed I8 tensor.
func (s *Stream) DownloadBytes(dst []byte, src Tensor) error {
	return s.read(dst, len(dst), dtype.I8, src)
}

// UploadBytes writes to an I8 tensor after what was appended before.
func (s *Stream) UploadBytes(dst Tensor, src []byte) { s.write(dst, dtype.I8, len(src), src) }
