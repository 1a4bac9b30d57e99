//go:build cuda

package cuda

import (
	"os"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/kerneltest"
)

// requireVar names the environment variable that makes tests fail, not skip, where there is no GPU.
const requireVar = "SHOAL_REQUIRE_GPU"

// open opens the first GPU, or the emulator.
func open(t testing.TB, o Options) *Device {
	t.Helper()
	d, err := Open(0, o)
	if err != nil {
		if os.Getenv(requireVar) != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// emulated tells whether the device is the emulator.
func emulated(d *Device) bool { return d.Info().Model == "shoal emulator" }

// TestConformance: on the emulator every buffer has guard pages, and products have one order. On a GPU cuBLASLt and the
// tensor cores have others.
func TestConformance(t *testing.T) {
	d := open(t, Options{Apart: true})
	run := kerneltest.RunApart
	if !emulated(d) {
		run = kerneltest.RunNear
	}
	for _, name := range kerneltest.Names() {
		t.Run(name, func(t *testing.T) { run(t, d, name) })
	}
}

var _ kernels.Device = (*Device)(nil)
