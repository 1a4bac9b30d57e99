package kerneltest

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

func testActivations(b *bench) {
	b.eachShape(func(rows, cols, pad int, mode kernels.Mode) {
		x, dy, prev := b.rand(rows, cols), b.rand(rows, cols), b.base(rows, cols)
		for i := range x.v {
			x.v[i] *= 2
		}
		tx, tdy := b.put(x, pad), b.put(dy, pad)
		y := b.put(prev, pad)
		b.s.ReLU(y, tx)
		b.close("relu", b.get(y), zip(func(v ...float64) float64 { return max(v[0], 0) }, x), 0)
		dx := b.put(prev, pad)
		b.s.ReLUBack(dx, tdy, tx, mode)
		b.close("relu d x", b.get(dx), expect(mode, prev, zip(func(v ...float64) float64 {
			if v[1] > 0 {
				return v[0]
			}
			return 0
		}, dy, x)), 2e-7)

		b.s.Tanh(y, tx)
		out := b.get(y)
		b.close("tanh", out, zip(func(v ...float64) float64 { return math.Tanh(v[0]) }, x), 1e-7)
		dx = b.put(prev, pad)
		b.s.TanhBack(dx, tdy, y, mode)
		b.close("tanh d x", b.get(dx), expect(mode, prev, zip(func(v ...float64) float64 { return v[0] * (1 - v[1]*v[1]) }, dy, out)), 2e-7)
	})
	b.activationsInPlace()
	b.overRoot()
}

// activationsInPlace: outputs may be inputs, and bfloat16 is rounded once.
func (b *bench) activationsInPlace() {
	x := mat{1, 4, []float64{-1, 0, 2, math.NaN()}}
	t := b.putAs(dtype.BF16, x, 3)
	b.s.ReLU(t, t)
	f := b.arena.F32(1, 4)
	b.s.Copy(f, t)
	if got := b.get(f).v; got[0] != 0 || got[1] != 0 || got[2] != 2 || !math.IsNaN(got[3]) {
		b.Errorf("relu of %v is %v", x.v, got)
	}
	b.done()
}

// overRoot: the root and the quotient are rounded once each; nothing over nothing is nothing.
func (b *bench) overRoot() {
	a, v := mat{1, 5, []float64{3, 0, 0, 1, 5}}, mat{1, 5, []float64{9, 0, 4, 2, 0}}
	for i := range a.v {
		a.v[i], v.v[i] = float64(float32(a.v[i])), float64(float32(v.v[i]))
	}
	dst := b.put(v, 0)
	b.s.OverRoot(dst, b.put(a, 2), dst)
	want := []float32{1, 0, 0, 1 / float32(math.Sqrt2), float32(math.Inf(1))}
	b.same("a/√v", b.get(dst), want)
	b.done()
}
