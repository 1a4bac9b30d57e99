package cpu

import (
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// TestKeepsAllOrNone: frozen weights are kept packed while they all fit; once one does not, none is, until memory is freed.
func TestKeepsAllOrNone(t *testing.T) {
	d, err := Open("generic")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.PackCache(3 * 64 * 64 * 4)
	s := kernels.NewStream(d)
	tensor := func() kernels.Tensor {
		x, err := kernels.Alloc(d, dtype.F32, 64, 64)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	x, y := tensor(), tensor()
	use := func(w kernels.Tensor) int {
		w.Frozen = true
		s.MatMul(y, x, w, kernels.MatMul{TB: true})
		if err := s.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		return len(d.pool.kept.panels)
	}
	a, b, c, e := tensor(), tensor(), tensor(), tensor()
	for i, w := range []kernels.Tensor{a, b, c, a} {
		if got, want := use(w), min(i+1, 3); got != want {
			t.Errorf("after product %d, %d weights are kept, want %d", i, got, want)
		}
	}
	for _, w := range []kernels.Tensor{e, a, b} {
		if got := use(w); got != 0 {
			t.Errorf("%d weights are kept, though not all fit", got)
		}
	}
	d.Free(e.Buf)
	if got := use(a); got != 1 {
		t.Errorf("%d weights are kept after one was freed, want 1", got)
	}
}
