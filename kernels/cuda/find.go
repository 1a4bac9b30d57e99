//go:build cuda

package cuda

import (
	"fmt"
	"os"

	"github.com/seed-7b27c88a/shoal/kernels/cuda/internal/driver"
)

// Find says what GPUs there are, or why there is none.
func Find() (*Found, error) {
	drv, err := driver.Load(os.Getenv(LibraryVar))
	if err != nil {
		return nil, err
	}
	f := &Found{Driver: fmt.Sprintf("%d.%d", drv.Version/1000, drv.Version%1000/10)}
	for n := range drv.Devices {
		g, err := drv.Device(n)
		if err != nil {
			f.GPUs = append(f.GPUs, GPU{Index: n, Why: err.Error()})
			continue
		}
		gpu := GPU{Index: n, Name: g.Name, Bus: g.Bus, Bytes: g.Bytes, Capability: fmt.Sprintf("%d.%d", g.Major, g.Minor), Multiprocessors: g.Multiprocessors}
		if err := usable(g); err != nil {
			gpu.Why = err.Error()
		}
		f.GPUs = append(f.GPUs, gpu)
	}
	if v, err := loadLt(); err != nil {
		f.LtWhy = err.Error()
	} else {
		f.Lt = v
	}
	return f, nil
}
