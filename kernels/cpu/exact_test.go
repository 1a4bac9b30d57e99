package cpu

import (
	"runtime"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// TestSumSqTogether: sums of squares that follow each other, which workers share, have the bits of single commands.
func TestSumSqTogether(t *testing.T) {
	d, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	const n, chunk = 100_003, 7_001
	s, a := kernels.NewStream(d), kernels.NewArena(d, 1<<20)
	x, dst := a.F32(1, n), kernels.NewArena(d, 64).Tensor(dtype.F64, 1, 2)
	s.Upload(x, ramp(1, n).p)
	for _, first := range []kernels.Mode{kernels.Set, kernels.Add} {
		var sums [2][2]float64
		for i, together := range []bool{false, true} {
			s.Fill(dst, 3)
			mode := first
			for lo := 0; lo < n; lo += chunk {
				s.SumSq(dst.SliceCols(0, 1), x.SliceCols(lo, min(n, lo+chunk)), mode)
				if mode = kernels.Add; !together {
					s.Flush()
				}
			}
			if err := s.DownloadF64(sums[i][:], dst); err != nil {
				t.Fatal(err)
			}
		}
		if sums[0] != sums[1] || sums[0][1] != 3 || sums[0][0] < n/4 {
			t.Errorf("mode %v: %v one by one, %v together", first, sums[0], sums[1])
		}
	}
}
