// Package kernels is shoal's compute: devices, their memory, and the operations on it.
//
// A Device runs commands. A Stream is the only way to make commands: its typed methods check shapes once
// and append a Cmd, which is pure data, so that batches of commands can be launched together, recorded,
// traced and costed. Backends implement Device and register themselves under a name (cpu, cuda); Open finds
// them. The package imports nothing of shoal but kernels/dtype and knows nothing of models.
//
// Numbers. Each op has an obviously right reference in kernels/cpu (the generic path), and the conformance
// suite kernels/kerneltest holds every backend to float64 results. Element-wise updates, weighted sums and
// norms are *exact operations*: a written order, each operation rounded once, no fused multiply-add, so that
// all backends give equal bits. GEMM and attention have tolerances across backends, and on one CPU give the
// same bits for any kernel width and number of workers.
//
// Concurrency. A Device is safe for concurrent use; a Stream belongs to one goroutine.
package kernels

import "context"

// Buffer is a piece of device memory. It lives until it is freed or its device is closed; arenas cut it into tensors.
type Buffer struct {
	Bytes []byte  // host view; nil where the host cannot address the memory
	Addr  uintptr // device address, for backends whose memory the host cannot see
	Size  int     // bytes
	Used  uint64  // of the device alone: how far its work was when it last named the buffer; 0: not known

	err error // set on the buffer of a failed arena: why there is no memory
}

// Cmd is one operation as data. What changes from step to step (learning rates, counters, positions) lies in
// tensors, not here, so that a recorded list can be replayed. The comment of each Op says which operand is where;
// operands that an op does not use are zero.
type Cmd struct {
	Op Op
	T  [16]Tensor
	I  [12]int32
	F  [4]float32
}

// Info says what a device is and can do.
type Info struct {
	Name     string // "cpu", "cuda:0"
	Model    string // "AMD EPYC 9554", as the hardware names itself
	Kernel   string // microkernel family in use: "avx512", "avx2", "neon", "generic", …
	Workers  int    // parallel workers of a CPU device
	MemBytes int64  // memory that tensors may use, 0: unknown
	InUse    int64  // bytes of the buffers that were allocated and not freed; a device's own scratch memory comes on top
}

// Device owns memory and runs commands on it. An error that Run finds at once belongs to the stream whose commands
// they were; one that a device finds later is reported by its next Sync.
type Device interface {
	Info() Info
	Alloc(bytes int) (*Buffer, error)   // zeroed, 64-byte aligned, outside the Go heap
	Host(bytes int) ([]byte, error)     // pinned or mapped host memory; lives as long as the device
	Run(cmds []Cmd) error               // enqueue in order
	Write(dst Tensor, src []byte) error // host → device, in stream order; src in dst.Type, row-major, packed, the caller's again on return
	Read(dst []byte, src Tensor) error  // device → host; waits for what was enqueued before
	Sync(ctx context.Context) error     // waits; reports the first error found since the last Sync
	Close() error
}

// Free gives buffers back before their device is closed, where the device can take them (it has a method Free); jobs
// come and go, the device stays. No command may use them any more.
func Free(dev Device, bs ...*Buffer) {
	f, ok := dev.(interface{ Free(b *Buffer) })
	for _, b := range bs {
		if ok && b != nil && b.err == nil {
			f.Free(b)
		}
	}
}

// PackCache lets a device keep up to so many bytes of frozen weights in the form that its products read, where it has
// such a form (it has a method PackCache); 0 drops what it keeps. Without the call a device uses a small part of its
// memory, or none where the process may have less than the machine.
func PackCache(dev Device, bytes int) {
	if p, ok := dev.(interface{ PackCache(bytes int) }); ok {
		p.PackCache(bytes)
	}
}
