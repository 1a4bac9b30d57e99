//go:build cuda

package cuda

import (
	"runtime"

	"github.com/seed-7b27c88a/shoal/kernels/cuda/internal/driver"
)

// thread is a goroutine that stays on one thread of the system, on which a GPU's context is current. What it is given
// runs in order. do does not allocate.
type thread struct {
	in  chan func()
	out chan struct{}
}

// startThread starts a thread and opens the context on it.
func startThread(dev *driver.Device) (*thread, *driver.Context, error) {
	t := &thread{in: make(chan func()), out: make(chan struct{})}
	var ctx *driver.Context
	var err error
	go t.loop()
	t.do(func() { ctx, err = dev.Open() })
	if err != nil {
		t.stop()
	}
	return t, ctx, err
}

func (t *thread) loop() {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the current context with it
	for f := range t.in {
		f()
		t.out <- struct{}{}
	}
	close(t.out)
}

// do runs f on the thread and waits. One caller at a time: whoever owns the thread has a mutex.
func (t *thread) do(f func()) {
	t.in <- f
	<-t.out
}

// stop ends the thread.
func (t *thread) stop() {
	close(t.in)
	<-t.out
}
