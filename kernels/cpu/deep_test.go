package cpu

import (
	"slices"
	"testing"
)

// TestDeepProduct: a product whose sums are so long that its panels are made in parts has the bits of one whose sums the
// caller cuts.
func TestDeepProduct(t *testing.T) {
	const m, n, k, cut = 13, 40, 330_000, 165_000
	if m*k <= keepMost || m*cut > keepMost {
		t.Fatal("the shape no longer tells the two apart")
	}
	f := families()[0]
	if f.peak == nil {
		t.Skip("plain Go takes long")
	}
	d := newDevice(f, newMemory())
	defer d.pool.close()
	x, y := ramp(m, k), ramp(k, n)
	whole, parts := ramp(m, n), ramp(m, n)
	d.gemm(product{c: matrix{mat: whole}, a: plain(x, false), b: plain(y, false)})
	d.gemm(product{c: matrix{mat: parts}, a: plain(x.window(0, m, 0, cut), false), b: plain(y.window(0, cut, 0, n), false)})
	d.gemm(product{c: matrix{mat: parts}, a: plain(x.window(0, m, cut, k), false), b: plain(y.window(cut, k, 0, n), false), add: true})
	if !slices.Equal(whole.p, parts.p) {
		t.Error("bits differ")
	}
}
