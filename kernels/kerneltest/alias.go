package kerneltest

import "github.com/seed-7b27c88a/shoal/kernels"

// testInPlace: where a method allows an output to be an input, the result is the same.
func testInPlace(b *bench) {
	const rows, cols = 3, 37
	x, y, w := b.rand(rows, cols), b.rand(rows, cols), b.rand(1, cols)
	tw, tb := b.put(w, 0), b.put(b.rand(1, cols), 0)
	rstd, stat := b.arena.F32(rows, 1), b.arena.F32(rows, 2)
	pos, freq := b.ints(1, 3, 1, 4), b.put(zeros(1, 5), 0)
	wide := b.rand(rows, 10)
	drop := kernels.Dropout{Rate: 0.5, Seed: 1, Step: b.ints(1, 1), Key: b.ints(2, 0, 0, 0, 1, 0, 2)}
	for name, op := range map[string]func(out, a, c kernels.Tensor){
		"Add":         func(out, a, c kernels.Tensor) { b.s.Add(out, a, c) },
		"Mul":         func(out, a, c kernels.Tensor) { b.s.Mul(out, a, c, kernels.Set) },
		"Scale":       func(out, a, c kernels.Tensor) { b.s.Scale(out, a, 0.3, kernels.Set) },
		"WeightedSum": func(out, a, c kernels.Tensor) { b.s.WeightedSum(out, a, 0.3, kernels.Set) },
		"SwiGLU":      func(out, a, c kernels.Tensor) { b.s.SwiGLU(out, a, c) },
		"GELU":        func(out, a, c kernels.Tensor) { b.s.GELU(out, a) },
		"GELUBack":    func(out, a, c kernels.Tensor) { b.s.GELUBack(out, a, c, kernels.Set) },
		"RMSNorm":     func(out, a, c kernels.Tensor) { b.s.RMSNorm(out, rstd, a, tw, 1e-5, 0) },
		"LayerNorm":   func(out, a, c kernels.Tensor) { b.s.LayerNorm(out, stat, a, tw, tb, 1e-5) },
		"RMSNormBack": func(out, a, c kernels.Tensor) { b.s.RMSNormBack(out, kernels.Tensor{}, a, c, tw, rstd, 0, kernels.Set) },
		"LayerNormBack": func(out, a, c kernels.Tensor) {
			b.s.LayerNormBack(out, kernels.Tensor{}, kernels.Tensor{}, a, c, tw, stat, kernels.Set)
		},
		"Drop": func(out, a, c kernels.Tensor) { b.s.Drop(out, a, drop, kernels.Set) },
	} {
		b.s.RMSNorm(b.put(y, 0), rstd, b.put(y, 0), tw, 1e-5, 0)
		b.s.LayerNorm(b.put(y, 0), stat, b.put(y, 0), tw, tb, 1e-5)
		apart, a, c := b.put(b.base(rows, cols), 3), b.put(x, 2), b.put(y, 5)
		op(apart, a, c)
		want := b.get(apart)
		op(a, a, c)
		b.same(name+" in place", b.get(a), narrow(want.v))
	}
	apart, a := b.put(b.base(rows, 10), 0), b.put(wide, 0)
	b.s.Rope(apart, a, pos, freq, 1, kernels.Rope{HeadDim: 10, Scale: 1})
	want := b.get(apart)
	b.s.Rope(a, a, pos, freq, 1, kernels.Rope{HeadDim: 10, Scale: 1})
	b.same("Rope in place", b.get(a), narrow(want.v))
	b.done()
}
