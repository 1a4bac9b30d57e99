//go:build cuda

package cuda

import (
	"errors"
	"fmt"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cuda/internal/driver"
)

// Alloc gives zeroed memory of the GPU.
func (d *Device) Alloc(bytes int) (*kernels.Buffer, error) {
	if bytes < 0 {
		return nil, fmt.Errorf("allocation of %d bytes", bytes)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return nil, err
	}
	var at uint64
	var err error
	d.send.do(func() {
		if at, err = d.takeMemory(bytes); err == nil {
			err = d.compute.Zero(driver.Ptr(at), max(bytes, 1))
		}
	})
	if err != nil {
		return nil, d.broken(err)
	}
	d.inUse.Add(int64(bytes))
	return &kernels.Buffer{Addr: uintptr(at), Size: bytes, Used: d.uses.open}, nil // by the zeros, and by whoever had it before
}

// Free takes a buffer of Alloc back. What was sent before may still use it: memory is given again in the order of the
// stream.
func (d *Device) Free(b *kernels.Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inUse.Add(-int64(b.Size))
	at := uint64(b.Addr)
	b.Addr, b.Size = 0, 0
	if d.alive() == nil {
		d.send.do(func() { d.putMemory(at) })
	}
}

// Host gives memory of this machine that the GPU reaches by itself.
func (d *Device) Host(bytes int) (b []byte, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return nil, err
	}
	d.send.do(func() { b, err = d.ctx.HostAlloc(bytes) })
	if err != nil {
		return nil, d.broken(err)
	}
	d.memory.Lock()
	defer d.memory.Unlock()
	d.pinned = append(d.pinned, b)
	return b, nil
}

// takeMemory gives n bytes of a slab, of a new one if needed. On the sending thread.
func (d *Device) takeMemory(n int) (uint64, error) {
	d.memory.Lock()
	defer d.memory.Unlock()
	if at, ok := d.heap.take(n); ok {
		return at, nil
	}
	if d.limit-d.heap.held() < int64(d.heap.slabFor(n)) {
		for _, s := range d.heap.trim() {
			if err := d.ctx.Free(driver.Ptr(s.at)); err != nil {
				return 0, err
			}
		}
	}
	if err := d.addSlab(n); err != nil {
		return 0, err
	}
	at, _ := d.heap.take(n)
	return at, nil
}

// addSlab takes a slab from the driver: a regular one, or where that is too much only what n bytes need.
func (d *Device) addSlab(n int) error {
	left := d.limit - d.heap.held()
	for _, size := range []int{d.heap.slabFor(n), rounded(n)} {
		if int64(size) > left {
			continue
		}
		p, err := d.ctx.Alloc(size)
		var e *driver.Error
		switch {
		case err == nil:
			d.heap.add(span{uint64(p), size})
			return nil
		case !errors.As(err, &e) || !e.OutOfMemory():
			return err
		}
	}
	return fmt.Errorf("no GPU memory for %d bytes more: %d of %d are in use; use a smaller batch or model", n, d.inUse.Load(), d.limit)
}

// putMemory takes a piece back; a slab that becomes empty goes back to the driver, which waits for the GPU first.
func (d *Device) putMemory(at uint64) {
	d.memory.Lock()
	defer d.memory.Unlock()
	if s, ok := d.heap.put(at); ok {
		if err := d.ctx.Free(driver.Ptr(s.at)); err != nil {
			err = d.broken(err)
		}
	}
}
