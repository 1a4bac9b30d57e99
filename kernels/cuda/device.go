//go:build cuda

package cuda

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cuda/fatbin"
	"github.com/seed-7b27c88a/shoal/kernels/cuda/internal/driver"
)

// LibraryVar names the environment variable with the path of the driver's library, if it is not where machines have it.
const LibraryVar = "SHOAL_LIBCUDA"

func init() {
	kernels.Register("cuda", func(option string) (kernels.Device, error) { return OpenNamed(option, Options{}) })
}

// OpenNamed opens the GPU whose number is given as text; empty is the first.
func OpenNamed(option string, o Options) (kernels.Device, error) {
	n, err := strconv.Atoi(option)
	if option == "" {
		n, err = 0, nil
	}
	if err != nil || n < 0 {
		return nil, fmt.Errorf("device cuda:%s; want a number, as in cuda:0", option)
	}
	d, err := Open(n, o)
	if err != nil {
		return nil, err // not a device that is nil
	}
	return d, nil
}

// slabBytes is what a device takes of the GPU's memory at a time.
const slabBytes = 256 << 20

// Device runs commands on one GPU.
type Device struct {
	info kernels.Info
	gpu  *driver.Device

	mu      sync.Mutex // guards sending: send, launcher, scratch, events and the staging of uploads
	send    *thread
	ctx     *driver.Context
	launch  *launcher
	scratch [depths]scratch
	tables  uint64        // dynamicTables in device memory
	cmds    []kernels.Cmd // of the Run at work
	runErr  error
	runNow  func() // sends cmds; bound once, so that a Run allocates nothing
	compute driver.Stream
	uses    uses
	small   small
	up      upload
	closed  bool

	waiting sync.Mutex // guards waiting: wait and the staging of downloads
	wait    *thread
	down    download

	memory sync.Mutex // guards heap, pinned and limit; taken after mu
	limit  int64      // bytes
	heap   heap
	pinned [][]byte

	governed   sync.Mutex // guards caps and govern
	caps       Caps
	govern     chan struct{} // closed to end the governor; nil: there is none
	ungoverned bool          // govern is closed
	pause      atomic.Int64  // nanoseconds to rest before a Run
	loops      sync.WaitGroup

	fault faultWord
	dead  atomic.Pointer[error] // why the device is of no use any more
	inUse atomic.Int64
}

// Open opens the n-th GPU.
func Open(n int, o Options) (*Device, error) {
	drv, err := driver.Load(os.Getenv(LibraryVar))
	if err != nil {
		return nil, err
	}
	if n >= drv.Devices {
		return nil, fmt.Errorf("device cuda:%d; the driver finds %d", n, drv.Devices)
	}
	gpu, err := drv.Device(n)
	if err == nil {
		err = usable(gpu)
	}
	if err != nil {
		return nil, err
	}
	d := &Device{gpu: gpu, limit: gpu.Bytes}
	if o.Bytes > 0 {
		d.limit = min(d.limit, o.Bytes)
	}
	if !o.Apart {
		d.heap.slabBytes = slabBytes
	}
	d.info = kernels.Info{Name: "cuda:" + strconv.Itoa(n), Model: gpu.Name, Kernel: "sm_" + capability(gpu), Workers: gpu.Multiprocessors}
	d.runNow = func() { d.runErr = d.run() }
	if err := d.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("device cuda:%d: %w", n, err), d.Close())
	}
	if err := d.Limit(o.Caps); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// usable says why a GPU cannot run our kernels.
func usable(gpu *driver.Device) error {
	if gpu.Major < 8 {
		return fmt.Errorf("%s has compute capability %d.%d; shoal needs 8.0 (Ampere) or newer", gpu.Name, gpu.Major, gpu.Minor)
	}
	return nil
}

func capability(gpu *driver.Device) string { return fmt.Sprintf("%d%d", gpu.Major, gpu.Minor) }

// start makes what lives in the GPU's context.
func (d *Device) start() (err error) {
	if d.send, d.ctx, err = startThread(d.gpu); err != nil {
		d.send = nil
		return err
	}
	if d.wait, _, err = startThread(d.gpu); err != nil {
		d.wait = nil
		return err
	}
	d.send.do(func() { err = d.prepare() })
	return err
}

func (d *Device) prepare() error {
	m, err := d.ctx.LoadModule(fatbin.Image)
	if err != nil {
		return fmt.Errorf("load the kernels: %w", err)
	}
	if d.compute, err = d.ctx.NewStream(); err != nil {
		return err
	}
	if err := d.fault.make(d.ctx); err != nil {
		return err
	}
	if err := d.uses.make(d.ctx); err != nil {
		return err
	}
	if err := d.small.make(d.ctx); err != nil {
		return err
	}
	if err := d.up.make(d.ctx); err != nil {
		return err
	}
	if err := d.down.make(d.ctx); err != nil {
		return err
	}
	if d.launch, err = newLauncher(d, m, d.compute); err != nil {
		return err
	}
	d.openProducts()
	return d.putTables()
}

// putTables uploads what kernels look up.
func (d *Device) putTables() error {
	v := dynamicTables()
	at, err := d.takeMemory(4 * len(v))
	if err != nil {
		return err
	}
	d.tables = at
	t := kernels.Tensor{Buf: &kernels.Buffer{Addr: uintptr(at), Size: 4 * len(v)}, Rows: 1, Cols: len(v), Ld: len(v)}
	return d.upload(&t, unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), 4*len(v)))
}

// Info says what the device is.
func (d *Device) Info() kernels.Info {
	i := d.info
	i.InUse = d.inUse.Load()
	d.memory.Lock()
	defer d.memory.Unlock()
	i.MemBytes = d.limit
	return i
}

// Run sends commands to the GPU and returns.
func (d *Device) Run(cmds []kernels.Cmd) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return err
	}
	d.idle()
	d.cmds = cmds
	d.send.do(d.runNow)
	d.cmds = nil
	return d.runErr
}

// run launches the commands of the Run at work. What they name is in use until they are done.
func (d *Device) run() error {
	for i := range d.cmds {
		for k := range d.cmds[i].T {
			if b := d.cmds[i].T[k].Buf; b != nil {
				b.Used = d.uses.open
			}
		}
	}
	return errors.Join(d.launch.run(d.cmds), d.uses.close(d.compute))
}

// Sync waits until everything sent so far is done and reports what went wrong since the last Sync or Read. If ctx ends
// first, the GPU goes on.
func (d *Device) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- d.sync() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Device) sync() (err error) {
	d.waiting.Lock()
	defer d.waiting.Unlock()
	if err := d.alive(); err != nil {
		return err
	}
	d.wait.do(func() { err = d.compute.Sync() })
	if err != nil {
		return d.broken(err)
	}
	return d.fault.take()
}

// alive returns why the device is of no use any more.
func (d *Device) alive() error {
	if e := d.dead.Load(); e != nil {
		return *e
	}
	return nil
}

// broken ends the device if the driver's error is one that its context does not survive.
func (d *Device) broken(err error) error {
	var e *driver.Error
	if errors.As(err, &e) && e.Fatal() {
		err = fmt.Errorf("%w: %w", ErrFault, err)
		d.dead.CompareAndSwap(nil, &err)
	}
	return err
}

var errNoLt = errors.New("switched off by " + LtVar)

var errClosed = errors.New("the device is closed")

// Close waits for the GPU and gives everything back.
func (d *Device) Close() (err error) {
	d.governed.Lock()
	if d.govern != nil && !d.ungoverned {
		d.ungoverned = true
		close(d.govern)
	}
	d.governed.Unlock()
	d.loops.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting.Lock()
	defer d.waiting.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	faulted := d.alive() != nil
	d.dead.CompareAndSwap(nil, &errClosed)
	if d.send != nil && d.ctx != nil {
		d.send.do(func() { err = d.release(faulted) })
	}
	for _, t := range []*thread{d.send, d.wait} {
		if t != nil {
			t.stop()
		}
	}
	if d.launch != nil {
		d.launch.list.Free()
	}
	return err
}

// release gives memory back. After a fault the driver answers everything with it, and takes the memory at the process's
// end.
func (d *Device) release(faulted bool) error {
	errs := []error{d.ctx.Sync()}
	if d.launch != nil && d.launch.lt != nil {
		errs = append(errs, d.launch.lt.Close())
	}
	d.memory.Lock()
	defer d.memory.Unlock()
	for _, s := range d.heap.slabs {
		errs = append(errs, d.ctx.Free(driver.Ptr(s.at)))
	}
	for _, b := range d.pinned {
		errs = append(errs, d.ctx.HostFree(b))
	}
	d.heap, d.pinned = heap{}, nil
	errs = append(errs, d.ctx.Close(), d.ctx.Close()) // both threads retained it
	if faulted {
		return nil
	}
	return errors.Join(errs...)
}
