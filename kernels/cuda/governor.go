//go:build cuda

package cuda

import (
	"fmt"
	"os"
	"time"

	"github.com/seed-7b27c88a/shoal/kernels/cuda/internal/driver"
)

// NVMLVar names the environment variable with the path of NVIDIA's management library, if it is not where machines have it.
const NVMLVar = "SHOAL_LIBNVML"

// lookEvery is how often a GPU with caps is looked at: its sensors change a few times in a second.
const lookEvery = 300 * time.Millisecond

// Limit puts caps in force. Memory that is in use stays.
func (d *Device) Limit(c Caps) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.memory.Lock()
	d.limit = d.gpu.Bytes
	if c.Bytes > 0 {
		d.limit = min(d.limit, c.Bytes)
	}
	d.memory.Unlock()
	d.governed.Lock()
	defer d.governed.Unlock()
	d.caps = c
	if !c.warm() {
		d.pause.Store(0)
		return nil
	}
	if err := driver.LoadNVML(os.Getenv(NVMLVar)); err != nil {
		return fmt.Errorf("caps of power and temperature cannot be kept: %w", err)
	}
	if d.govern == nil {
		d.govern = make(chan struct{})
		d.loops.Go(d.governor)
	}
	return nil
}

// governor looks at power and temperature until the device is closed.
func (d *Device) governor() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var r rest
	for {
		select {
		case <-d.govern:
			return
		case <-tick.C:
			watts, celsius, err := driver.Heat(d.gpu.Bus)
			if err != nil {
				continue // a sensor that does not answer now
			}
			d.governed.Lock()
			r.see(d.caps, watts, celsius)
			d.governed.Unlock()
			d.pause.Store(int64(r.pause))
		}
	}
}

// idle lets the GPU finish and rest where caps ask for it. The caller holds mu.
func (d *Device) idle() {
	pause := time.Duration(d.pause.Load())
	if pause == 0 {
		return
	}
	d.send.do(func() { _ = d.compute.Sync() }) // an error comes again with the next call
	select {
	case <-time.After(pause):
	case <-d.govern:
	}
}
