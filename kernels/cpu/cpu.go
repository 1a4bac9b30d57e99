// Package cpu is the device that every machine has: pure Go, with generated assembly for the hot loops where the
// processor has the instructions.
//
// All kernel families (generic, avx2, avx512, neon) give the same bits for every op. That is by construction: sums along
// k are one chain of fused multiply-adds, reductions along a row use 16 virtual lanes and one fixed tree, and every
// element-wise formula is written as the same sequence of roundings. What is split over workers are outputs, never
// sums, so the number of workers changes no bit either; nor does what is chosen at start-up by measurement. Products
// computed in bfloat16 have one exception, which Stream.MatMul names.
//
// Concurrency. A Device takes calls from any goroutine and runs them one after the other; inside, an op is spread over
// GOMAXPROCS workers, which live until Close. Tensor memory is mapped outside the Go heap.
package cpu

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/seed-7b27c88a/shoal/kernels"
)

func init() {
	kernels.Register("cpu", func(option string) (kernels.Device, error) { return Open(option) })
}

// Device runs ops on this machine's processor.
type Device struct {
	info kernels.Info
	fam  *family

	mu   sync.Mutex // held while commands run: one op at a time has the workers
	pool *pool
	call *call
	mem  *memory

	inUse atomic.Int64 // bytes of buffers of Alloc
}

// Open makes a device. The option names a kernel family; empty takes the best that the processor has.
func Open(option string) (*Device, error) {
	fam, err := chooseFamily(option)
	if err != nil {
		return nil, err
	}
	mem := newMemory()
	d := newDevice(fam, mem)
	d.pool.kept.budget = mem.keepBudget()
	d.info = kernels.Info{Name: "cpu", Model: model(), Kernel: fam.name, Workers: d.pool.workers(), MemBytes: mem.limit}
	return d, nil
}

func newDevice(fam *family, mem *memory) *Device {
	p := newPool(fam, mem)
	return &Device{fam: fam, mem: mem, pool: p, call: newCall(p)}
}

// PackCache sets how many bytes of frozen weights may be kept packed; what is kept is dropped where it is more.
func (d *Device) PackCache(bytes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pool.kept.budget, d.pool.kept.over = max(0, bytes), false
	if d.pool.kept.used > bytes {
		d.pool.kept.drop(d.mem, nil)
	}
}

// Info says what the device is.
func (d *Device) Info() kernels.Info {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.info.Workers, d.info.InUse = d.pool.workers(), d.inUse.Load()
	return d.info
}

// Alloc maps zeroed memory that lives until Free or Close.
func (d *Device) Alloc(bytes int) (*kernels.Buffer, error) {
	b, err := d.mem.alloc(bytes)
	if err != nil {
		return nil, err
	}
	d.inUse.Add(int64(bytes))
	return &kernels.Buffer{Bytes: b, Size: len(b)}, nil
}

// Free takes back a buffer of Alloc for others. Tensors on it are dead: a stream refuses them.
func (d *Device) Free(b *kernels.Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pool.kept.drop(d.mem, b.Bytes)
	d.mem.free(b.Bytes)
	d.inUse.Add(-int64(b.Size))
	b.Bytes, b.Size = nil, 0
}

// Host is the same memory: the CPU has no other.
func (d *Device) Host(bytes int) ([]byte, error) { return d.mem.alloc(bytes) }

// Run carries out the commands and returns when they are done, or at the first that its data makes impossible. The
// stream that sent it keeps the error; other streams go on.
func (d *Device) Run(cmds []kernels.Cmd) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pool.follow()
	for i := 0; i < len(cmds); i++ {
		c := &cmds[i]
		if n := sumsOfSquares(cmds[i:]); n > 1 {
			d.call.sumSqs(cmds[i : i+n])
			i += n - 1
			continue
		}
		op := ops[c.Op]
		if op == nil {
			panic("kernels/cpu: no op " + c.Op.String())
		}
		d.call.start(c)
		if err := op(d, d.call); err != nil {
			return fmt.Errorf("%v: %w", c.Op, err)
		}
	}
	return nil
}

// Write copies packed rows into a tensor.
func (d *Device) Write(dst kernels.Tensor, src []byte) error {
	return d.transfer(dst, len(src), func(row []byte, at int) { copy(row, src[at:]) })
}

// Read copies a tensor's rows out, packed.
func (d *Device) Read(dst []byte, src kernels.Tensor) error {
	return d.transfer(src, len(dst), func(row []byte, at int) { copy(dst[at:], row) })
}

// transfer calls row with the bytes of each row of t and the row's place in a packed host buffer of n bytes.
func (d *Device) transfer(t kernels.Tensor, n int, row func(row []byte, at int)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	width := t.Type.Bytes(t.Cols)
	if n != t.Rows*width {
		return fmt.Errorf("%d bytes of host memory for %v, which has %d", n, t, t.Rows*width)
	}
	for i := range t.Rows {
		lo := t.Type.Bytes(t.Off + i*t.Ld)
		row(t.Buf.Bytes[lo:lo+width], i*width)
	}
	return nil
}

// Sync has nothing to wait for: Run has waited.
func (d *Device) Sync(ctx context.Context) error { return ctx.Err() }

// Close ends the workers and gives the memory back. Nothing may use the device or its tensors afterwards.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pool.close()
	return d.mem.close()
}
