//go:build cuda && cudaemu

package cuda

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
)

// TestTwoGPUs: the GPUs of a machine work at the same time, each with memory and caps of its own, and a third one is not
// there.
func TestTwoGPUs(t *testing.T) {
	found, err := Find()
	if err != nil || len(found.GPUs) < 2 {
		t.Skip("the driver has one GPU: ", err)
	}
	var devs []*Device
	for n := range 2 {
		d, err := Open(n, Options{Caps: Caps{Bytes: int64(n+1) << 24}})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if i := d.Info(); i.Name != fmt.Sprintf("cuda:%d", n) || i.MemBytes != int64(n+1)<<24 {
			t.Errorf("GPU %d says %+v", n, i)
		}
		devs = append(devs, d)
	}
	var wg sync.WaitGroup
	for n, d := range devs {
		wg.Go(func() {
			s, a := kernels.NewStream(d), kernels.NewArena(d, 1<<16)
			defer a.Free()
			x, y := a.F32(30, 33), a.F32(30, 33)
			s.Fill(x, float32(n+1))
			s.Fill(y, 0)
			for range 40 {
				s.Add(y, y, x)
			}
			got, want := make([]float32, x.Len()), float32(40*(n+1))
			if err := s.Download(got, y); err != nil || slices.Min(got) != want || slices.Max(got) != want {
				t.Errorf("GPU %d: %v to %v, want %v (%v)", n, slices.Min(got), slices.Max(got), want, err)
			}
		})
	}
	wg.Wait()
	if _, err := OpenNamed("7", Options{}); err == nil || !strings.Contains(err.Error(), "finds 2") {
		t.Errorf("a GPU that is not there: %v", err)
	}
}
