package worker

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cuda"
)

// ErrLost says that the child with the device is gone, and everything that the device held.
var ErrLost = errors.New("the device's process ended")

// restartAfter is how long after its start a child must have lived for another one to be started: one that dies at once
// would die again.
const restartAfter = 5 * time.Second

// Device is a device in a child process.
type Device struct {
	start func() *exec.Cmd // makes a child
	inUse atomic.Int64

	mu     sync.Mutex // guards the rest, and the order of frames
	info   kernels.Info
	caps   cuda.Caps // that every child gets
	child  *child    // nil: none could be started
	began  time.Time // when it was started
	next   uint64    // number of the next buffer
	frame  encoder
	closed bool
}

// Start starts a child that serves a device on its standard input and output: cmd makes one.
func Start(cmd func() *exec.Cmd, caps cuda.Caps) (*Device, error) {
	d := &Device{start: cmd, next: 1, caps: caps}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.restart(); err != nil {
		return nil, err
	}
	return d, nil
}

// restart starts a child. The caller holds mu.
func (d *Device) restart() error {
	c, err := newChild(d.start(), d.next)
	if err != nil {
		return fmt.Errorf("start the device's process: %w", err)
	}
	d.child, d.began = c, time.Now()
	d.frame.start(kindInfo)
	body, err := d.ask(nil).wait()
	if err != nil {
		d.child = nil
		return errors.Join(err, c.stop())
	}
	r := decoder{b: body}
	d.info = kernels.Info{Name: r.text(), Model: r.text(), Kernel: r.text(), Workers: r.size(), MemBytes: int64(r.size())}
	if r.err != nil {
		return r.err
	}
	_, err = d.limit().wait()
	return err
}

// limit sends the caps. The caller holds mu.
func (d *Device) limit() call {
	d.frame.start(kindLimit)
	d.frame.u64(uint64(max(d.caps.Bytes, 0)))
	d.frame.u64(uint64(max(d.caps.Watts, 0)))
	d.frame.u64(uint64(max(d.caps.Celsius, 0)))
	return d.ask(nil)
}

// Limit puts caps in force, also for children to come.
func (d *Device) Limit(c cuda.Caps) error {
	d.mu.Lock()
	if c == d.caps {
		d.mu.Unlock()
		return nil
	}
	was := d.caps
	d.caps = c
	sent := d.limit()
	d.mu.Unlock()
	_, err := sent.wait()
	if err == nil || errors.Is(err, ErrLost) { // the next child is told
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.caps = was
	return err
}

// gone is why there is no child, or nil. The caller holds mu.
func (d *Device) gone() error {
	switch {
	case d.closed:
		return errors.New("the device is closed")
	case d.child == nil:
		return ErrLost
	}
	return d.child.gone()
}

// ask sends the frame, with more bytes behind it, and gives the place where its answer will be. The caller holds mu, and
// waits without it.
func (d *Device) ask(more []byte) call {
	if err := d.gone(); err != nil {
		return failed(err)
	}
	return d.child.ask(d.frame.finish(len(more)), more)
}

// tell sends a frame that has no answer. The caller holds mu.
func (d *Device) tell(more []byte) error {
	if err := d.gone(); err != nil {
		return err
	}
	return d.child.send(d.frame.finish(len(more)), more)
}

// Info says what the device is.
func (d *Device) Info() kernels.Info {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := d.info
	if d.caps.Bytes > 0 {
		i.MemBytes = min(i.MemBytes, d.caps.Bytes)
	}
	i.InUse = d.inUse.Load()
	return i
}

// Alloc gives memory of the device. Where the last child is gone it starts another one.
func (d *Device) Alloc(bytes int) (*kernels.Buffer, error) {
	number, c, err := d.alloc(bytes)
	if err == nil {
		_, err = c.wait()
	}
	if err != nil {
		return nil, err
	}
	d.inUse.Add(int64(bytes))
	return &kernels.Buffer{Addr: uintptr(number), Size: bytes}, nil
}

func (d *Device) alloc(bytes int) (uint64, call, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.gone(); errors.Is(err, ErrLost) && time.Since(d.began) > restartAfter {
		d.inUse.Store(0)
		if err := d.restart(); err != nil {
			return 0, nil, err
		}
	} else if err != nil {
		return 0, nil, err
	}
	number := d.next
	d.next++
	d.frame.start(kindAlloc)
	d.frame.u64(number)
	d.frame.u64(uint64(max(bytes, 0)))
	return number, d.ask(nil), nil
}

// Free gives a buffer back. One of a child that is gone went with it.
func (d *Device) Free(b *kernels.Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	number := uint64(b.Addr)
	if d.gone() == nil && number >= d.child.first {
		d.inUse.Add(-int64(b.Size))
		d.frame.start(kindFree)
		d.frame.u64(number)
		_ = d.tell(nil) // a child that is gone has freed everything
	}
	b.Addr, b.Size = 0, 0
}

// Host gives memory of this process: the child has none that both see.
func (d *Device) Host(bytes int) ([]byte, error) {
	if bytes < 0 {
		return nil, fmt.Errorf("allocation of %d bytes", bytes)
	}
	return make([]byte, bytes), nil
}

// Run sends commands.
func (d *Device) Run(cmds []kernels.Cmd) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.frame.start(kindRun)
	for i := range cmds {
		for k := range cmds[i].T {
			if err := d.here(&cmds[i].T[k]); err != nil {
				return err
			}
		}
		d.frame.command(&cmds[i])
	}
	return d.tell(nil)
}

// here reports a tensor whose buffer went with another child. The caller holds mu.
func (d *Device) here(t *kernels.Tensor) error {
	if t.Buf == nil {
		return nil
	}
	if err := d.gone(); err != nil {
		return err
	}
	if uint64(t.Buf.Addr) < d.child.first {
		return fmt.Errorf("%w, and its memory with it", ErrLost)
	}
	return nil
}

// Write sends contents of a tensor.
func (d *Device) Write(dst kernels.Tensor, src []byte) error {
	if want := dst.Rows * dst.Type.Bytes(dst.Cols); len(src) != want {
		return fmt.Errorf("%d bytes of host memory for %v, which has %d", len(src), dst, want)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.here(&dst); err != nil {
		return err
	}
	d.frame.start(kindWrite)
	d.frame.tensor(&dst)
	return d.tell(src)
}

// Read waits for what was sent before and copies a tensor.
func (d *Device) Read(dst []byte, src kernels.Tensor) error {
	if want := src.Rows * src.Type.Bytes(src.Cols); len(dst) != want {
		return fmt.Errorf("%d bytes of host memory for %v, which has %d", len(dst), src, want)
	}
	c := d.read(&src)
	body, err := c.wait()
	if err != nil {
		return err
	}
	if len(body) != len(dst) {
		return errFrame
	}
	copy(dst, body)
	return nil
}

func (d *Device) read(src *kernels.Tensor) call {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.here(src); err != nil {
		return failed(err)
	}
	d.frame.start(kindRead)
	d.frame.tensor(src)
	return d.ask(nil)
}

// Sync waits for the device. If ctx ends first, the device goes on.
func (d *Device) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	d.frame.start(kindSync)
	c := d.ask(nil)
	d.mu.Unlock()
	select {
	case a := <-c:
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// PackCache passes on how much the device may keep of frozen weights in its own form.
func (d *Device) PackCache(bytes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.frame.start(kindCache)
	d.frame.u64(uint64(max(bytes, 0)))
	_ = d.tell(nil) // the next child starts with what a device does by itself
}

// Close ends the child and waits for it.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if d.child == nil {
		return nil
	}
	return d.child.stop()
}
