package cpu

import (
	"unsafe"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// worker has what one goroutine needs to run kernels: their argument block and scratch memory.
type worker struct {
	fam  *family
	mem  *memory
	wake chan struct{} // a token: there may be a job
	args args
	tail [maxOperands][lanes]float32
	buf  [numScratch][]float32
	nf4  [16]float32            // what the codes of NF4 stand for
	rows [maxOperands][]float32 // operands of an element-wise op

	block     block              // of the product that this worker drives
	blockTask func(*worker, int) // its method, bound once
	ahead     ahead              // what this worker reads next
	full      [maxTile]float32   // a microkernel's tile that reaches over the border of its matrix
}

func newWorker(fam *family, mem *memory) *worker {
	w := &worker{fam: fam, mem: mem, wake: make(chan struct{}, 1), nf4: dtype.NF4Levels()}
	w.blockTask = w.block.task
	return w
}

// The scratch buffers of a worker.
const (
	scratchShort = iota // packed panels of the short side of a product
	scratchLong         // and of its long side
	scratchStrip        // a part of the long side that nobody else needs
	scratchSums         // a tile of a product whose result is bfloat16
	scratchStage        // lines of an operand on their way into panels
	scratchFetch        // one of them
	scratchRow          // a row or two
	scratchTile         // attention scores
	scratchTile2        // their gradients
	scratchTile3        // slopes of a softcap
	scratchOut          // rows of an output of attention
	scratchSums2        // of the key and value gradients, by their place
	_
	_
	scratchWide // bfloat16 operands as float32, one for each place of a command
	numScratch  = scratchWide + 16
)

// scratch is n floats of undefined contents, valid until the worker asks for the same buffer again.
func (w *worker) scratch(which, n int) []float32 {
	if len(w.buf[which]) < n {
		w.buf[which] = w.mem.floats(max(n, 2*len(w.buf[which])))
	}
	return w.buf[which][:n]
}

// halves is scratch memory of bfloat16.
func (w *worker) halves(which, n int) []uint16 {
	f := w.scratch(which, (n+1)/2)
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(f))), n)
}

// floats is scratch memory. It is small beside tensors and bounded by the shapes of an op; running out of it is fatal
// like running out of stack. Smaller buffers that it replaces stay mapped until close.
func (m *memory) floats(n int) []float32 {
	b, err := m.alloc(4 * n)
	if err != nil {
		panic("kernels/cpu: scratch: " + err.Error())
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), n)
}

// release gives back memory of floats.
func (m *memory) release(f []float32) {
	if cap(f) > 0 {
		m.free(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(f))), 1))
	}
}
