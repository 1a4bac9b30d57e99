package autograd

import (
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	_ "github.com/seed-7b27c88a/shoal/kernels/cpu"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// TestJoin: matrices that follow each other are one, with one gradient or none; what does not fit stays apart.
func TestJoin(t *testing.T) {
	dev, err := kernels.Open("cpu")
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	flat, err := kernels.Alloc(dev, dtype.F32, 1, 100)
	if err != nil {
		t.Fatal(err)
	}
	matrix := func(rows, cols, off int) *Param {
		return &Param{Name: "m", Rows: rows, Cols: cols, Shape: []int{rows, cols}, Off: off}
	}
	vector := func(n, off int) *Param { return &Param{Name: "v", Rows: 1, Cols: n, Shape: []int{n}, Off: off} }
	for name, tc := range map[string]struct {
		ps         Few
		freeze     int // the place of one that does not learn, -1: none
		rows, cols int // of the whole, 0: there is none
	}{
		"three matrices":   {Few{matrix(2, 4, 0), matrix(1, 4, 8), matrix(3, 4, 12)}, -1, 6, 4},
		"two rows":         {Few{matrix(1, 4, 0), matrix(1, 4, 4)}, -1, 2, 4},
		"vectors":          {Few{vector(3, 0), vector(5, 3)}, -1, 1, 8},
		"a gap":            {Few{matrix(2, 4, 0), matrix(1, 4, 9)}, -1, 0, 0},
		"the wrong order":  {Few{matrix(2, 4, 4), matrix(1, 4, 0)}, -1, 0, 0},
		"different widths": {Few{matrix(2, 4, 0), matrix(2, 2, 8)}, -1, 0, 0},
		"one is frozen":    {Few{matrix(2, 4, 0), matrix(1, 4, 8)}, 1, 0, 0},
		"vector, matrix":   {Few{vector(4, 0), matrix(1, 4, 4)}, -1, 0, 0},
	} {
		r := NewResident()
		for i, p := range tc.ps {
			switch {
			case p == nil:
			case i == tc.freeze:
				r.Freeze(p, NewResident().window(flat, p))
			default:
				r.Train(p, flat, flat)
			}
		}
		whole := r.Join(tc.ps)
		if tc.rows == 0 {
			if whole != nil {
				t.Errorf("%s: joined", name)
			}
			continue
		}
		if whole == nil || whole != r.Join(tc.ps) {
			t.Errorf("%s: not joined, or anew each time", name)
			continue
		}
		g, learns := r.Grad(whole)
		if v := r.Value(whole); v.Rows != tc.rows || v.Cols != tc.cols || !learns || g.Len() != v.Len() {
			t.Errorf("%s: %v with the gradient %v", name, v, g)
		}
		if r.Blank(); !r.Start(whole) || r.Start(whole) || r.Start(tc.ps[0]) {
			t.Errorf("%s: a gradient is written more often than once, or never", name)
		}
	}
}
