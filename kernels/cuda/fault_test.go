//go:build cuda && cudaemu

package cuda

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

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

// TestWarm: a GPU above its cap rests between batches of commands, one that is below does not.
func TestWarm(t *testing.T) {
	d := open(t, Options{Caps: Caps{Celsius: 70, Watts: 400}})
	for _, c := range []struct {
		celsius uint64
		rests   bool
	}{{85, true}, {50, false}} {
		if err := driver.Call("shoalEmuCelsius", c.celsius); err != nil {
			t.Skip(err)
		}
		deadline := time.After(20 * time.Second)
		for (d.pause.Load() > 0) != c.rests {
			select {
			case <-deadline:
				t.Fatalf("at %d °C it rests %v", c.celsius, time.Duration(d.pause.Load()))
			default:
				runtime.Gosched()
			}
		}
		if err := d.Run(chain(t, d, 2)); err != nil {
			t.Error(err)
		}
	}
}
