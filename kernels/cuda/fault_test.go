//go:build cuda && cudaemu

package cuda

import (
	"context"
	"errors"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cuda/internal/driver"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// TestFault: a wrong address ends the device, with its reason; everything afterwards says the same and nothing hangs.
func TestFault(t *testing.T) {
	d, err := Open(0, Options{Apart: true})
	if err != nil {
		t.Fatal(err)
	}
	defer driver.Call("shoalEmuHeal", 0)
	x, err := kernels.Alloc(d, dtype.F32, 4, 8)
	if err != nil {
		t.Fatal(err)
	}
	wrong := x
	wrong.Buf = &kernels.Buffer{Addr: 4096, Size: x.Buf.Size}
	s := kernels.NewStream(d)
	s.Add(x, wrong, x)
	if err := s.Sync(context.Background()); !errors.Is(err, ErrFault) {
		t.Fatalf("a wrong address: %v", err)
	}
	if _, err := d.Alloc(1); !errors.Is(err, ErrFault) {
		t.Errorf("memory after a fault: %v", err)
	}
	if err := d.Run(nil); !errors.Is(err, ErrFault) {
		t.Errorf("commands after a fault: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
