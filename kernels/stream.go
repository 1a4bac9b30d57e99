package kernels

import (
	"context"
	"fmt"
	"unsafe"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// batch is how many commands a Stream keeps before it hands them to the device by itself: enough to hide the cost of
// a launch, few enough (about 1 KiB each) to stay in cache.
const batch = 64

// Stream makes commands for one device. Its methods check shapes and append a Cmd; Flush hands what was appended to
// the device, Sync waits for it. A wrong shape is our own bug and panics with both shapes; errors of the device
// stick, later commands are dropped, and Err and Sync report the first.
//
// Operands do not overlap unless the comment of the method allows it. Every method takes strided tensors.
//
// Types. Activations and their gradients are F32 or BF16, in any mixture: the inputs and outputs of Add, Mul, Scale,
// SumRows (x), the gated functions, Drop, the norms (x, y and their gradients), Rope, Attention (but lse), GatherRows,
// ScatterAddRows (dy), CopyRows, and what MatMul and Head say. BF16 inputs are widened, which is exact, the op computes
// in float32, and BF16 outputs are rounded once: the result is that of F32 tensors, rounded. Everything else is F32:
// weights of norms, statistics, gradients of parameters, exact operations; or as the method says.
type Stream struct {
	dev  Device
	cmds []Cmd
	err  error
}

// NewStream makes a stream on dev. A stream needs no closing.
func NewStream(dev Device) *Stream { return &Stream{dev: dev, cmds: make([]Cmd, 0, batch)} }

// Device is where the stream's commands run.
func (s *Stream) Device() Device { return s.dev }

// Err is the first error of the stream so far. Commands still on their way may add one: Sync knows.
func (s *Stream) Err() error { return s.err }

// Flush hands the commands appended so far to the device.
func (s *Stream) Flush() {
	if s.err == nil && len(s.cmds) > 0 {
		s.err = s.dev.Run(s.cmds)
	}
	s.cmds = s.cmds[:0]
}

// Sync flushes, waits for the device, and returns the first error since the stream was made.
func (s *Stream) Sync(ctx context.Context) error {
	s.Flush()
	if s.err == nil {
		s.err = s.dev.Sync(ctx)
	}
	return s.err
}

// Upload writes src, row-major, to an F32 tensor after what was appended before.
func (s *Stream) Upload(dst Tensor, src []float32) {
	s.write(dst, dtype.F32, len(src), hostBytes(src))
}

// UploadI32 writes src, row-major, to an I32 tensor after what was appended before.
func (s *Stream) UploadI32(dst Tensor, src []int32) {
	s.write(dst, dtype.I32, len(src), hostBytes(src))
}

// Download waits for what was appended before and reads an F32 tensor, row-major.
func (s *Stream) Download(dst []float32, src Tensor) error {
	return s.read(hostBytes(dst), len(dst), dtype.F32, src)
}

// DownloadI32 is Download for I32 tensors.
func (s *Stream) DownloadI32(dst []int32, src Tensor) error {
	return s.read(hostBytes(dst), len(dst), dtype.I32, src)
}

// DownloadF64 is Download for F64 tensors.
func (s *Stream) DownloadF64(dst []float64, src Tensor) error {
	return s.read(hostBytes(dst), len(dst), dtype.F64, src)
}

func (s *Stream) write(dst Tensor, t dtype.Type, n int, b []byte) {
	if dst.Type != t || dst.Len() != n {
		panic(fmt.Sprintf("kernels: upload of %d %v to %v", n, t, dst))
	}
	if !s.live(dst) {
		return
	}
	if s.Flush(); s.err == nil {
		s.err = s.dev.Write(dst, b)
	}
}

func (s *Stream) read(b []byte, n int, t dtype.Type, src Tensor) error {
	if src.Type != t || src.Len() != n {
		panic(fmt.Sprintf("kernels: download of %d %v from %v", n, t, src))
	}
	if !s.live(src) {
		return s.err
	}
	if s.Flush(); s.err == nil {
		s.err = s.dev.Read(b, src)
	}
	return s.err
}

// live checks that a tensor lies inside its buffer, and takes over the error of a dead one.
func (s *Stream) live(t Tensor) bool {
	if t.Buf.err != nil && s.err == nil {
		s.err = t.Buf.err
	}
	if s.err == nil && !t.fits() {
		panic(fmt.Sprintf("kernels: %v at %d, rows %d apart, is outside its buffer of %d bytes", t, t.Off, t.Ld, t.Buf.Size))
	}
	return s.err == nil
}

// put appends a command whose shapes were checked.
func (s *Stream) put(c Cmd) {
	if s.err != nil {
		return
	}
	for i := range c.T {
		if c.T[i].Buf != nil && !s.live(c.T[i]) {
			return
		}
	}
	if s.cmds = append(s.cmds, c); len(s.cmds) == batch {
		s.Flush()
	}
}

// must panics with the shapes unless ok.
func must(ok bool, op Op, ts ...Tensor) {
	if ok {
		return
	}
	msg := "kernels: " + op.String()
	for _, t := range ts {
		msg += " " + t.String()
	}
	panic(msg)
}

// is reports whether t is a tensor of the type and shape; a negative size means any.
func is(t Tensor, typ dtype.Type, rows, cols int) bool {
	return t.Buf != nil && t.Type == typ && (rows < 0 || t.Rows == rows) && (cols < 0 || t.Cols == cols)
}

// isF32 reports whether t is F32 and (rows, cols).
func isF32(t Tensor, rows, cols int) bool { return is(t, dtype.F32, rows, cols) }

// isReal reports whether t is F32 or BF16 and (rows, cols).
func isReal(t Tensor, rows, cols int) bool {
	return isF32(t, rows, cols) || is(t, dtype.BF16, rows, cols)
}

// optF32 is isF32 that also takes none.
func optF32(t Tensor, rows, cols int) bool { return t.None() || isF32(t, rows, cols) }

// alikeReal reports whether all are F32 or BF16, in any mixture, and of the shape of the first.
func alikeReal(a Tensor, more ...Tensor) bool {
	for _, t := range more {
		if !isReal(t, a.Rows, a.Cols) {
			return false
		}
	}
	return isReal(a, -1, -1)
}

// alike reports whether all are F32 and of the shape of the first.
func alike(a Tensor, more ...Tensor) bool {
	for _, t := range more {
		if !isF32(t, a.Rows, a.Cols) {
			return false
		}
	}
	return isF32(a, -1, -1)
}

func flag(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

func hostBytes[E float32 | int32 | float64](v []E) []byte {
	if len(v) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), len(v)*int(unsafe.Sizeof(v[0])))
}
