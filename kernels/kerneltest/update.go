package kerneltest

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// testUpdates: the written order of every update in float32, bit for bit, over three steps and all shapes.
func testUpdates(b *bench) {
	for _, u := range []struct {
		name  string
		hyper []float64
		run   func(w, g, m, v, h kernels.Tensor)
		ref   func(w, g, m, v *float32, h []float32)
	}{
		{"lion", []float64{0.5, 0.99, 0.9, 0.1, 0.99, 0.01, 1e-3},
			func(w, g, m, _, h kernels.Tensor) { b.s.Lion(w, g, m, h) }, lionRef},
		{"sgd", []float64{0.5, 0.01, 0.1},
			func(w, g, _, _, h kernels.Tensor) { b.s.SGD(w, g, kernels.Tensor{}, h) },
			func(w, g, _, _ *float32, h []float32) { *w -= float32(h[2] * (float32(*g*h[0]) + float32(*w*h[1]))) }},
		{"momentum", []float64{0.5, 0.01, 0.1, 0.9, 0, 1},
			func(w, g, m, _, h kernels.Tensor) { b.s.SGD(w, g, m, h) }, momentumRef},
		{"nesterov", []float64{0.5, 0.01, 0.1, 0.9, 1, 0.9},
			func(w, g, m, _, h kernels.Tensor) { b.s.SGD(w, g, m, h) }, momentumRef},
		{"sophia", []float64{0.5, 0.99, 0.965, 0.035, 1e-3, 0.04, 1e-15}, func(w, g, m, v, h kernels.Tensor) {
			b.s.AverageSquares(v, g, b.put(mat{1, 2, widen([]float32{0.99, 0.4})}, 0))
			b.s.Sophia(w, g, m, v, h)
		}, sophiaRef},
	} {
		for _, s := range shapes {
			b.threeUpdates(u.name, s[0], s[1], s[2], narrow(u.hyper), u.run, u.ref)
		}
	}
}

func (b *bench) threeUpdates(name string, rows, cols, pad int, h []float32, run func(w, g, m, v, h kernels.Tensor),
	ref func(w, g, m, v *float32, h []float32)) {
	w := b.rand(rows, cols)
	tw, tm, tv := b.put(w, pad), b.put(zeros(rows, cols), pad), b.put(zeros(rows, cols), pad)
	ws, ms, vs := narrow(w.v), make([]float32, len(w.v)), make([]float32, len(w.v))
	hyper := b.put(mat{1, len(h), widen(h)}, 0)
	for range 3 {
		g := b.rand(rows, cols)
		g.v[0] = 0
		run(tw, b.put(g, pad), tm, tv, hyper)
		for i, x := range narrow(g.v) {
			ref(&ws[i], &x, &ms[i], &vs[i], h)
		}
	}
	b.same(name+" w", b.get(tw), ws)
	b.same(name+" m", b.get(tm), ms)
	b.same(name+" v", b.get(tv), vs)
	b.done()
}

func lionRef(w, g, m, _ *float32, h []float32) {
	x := float32(*g * h[0])
	c := float32(h[2]**m) + float32(h[3]*x)
	*m = float32(h[4]**m) + float32(h[5]*x)
	*w = float32(*w * h[1])
	if c > 0 {
		*w -= h[6]
	} else if c < 0 {
		*w += h[6]
	}
}

func momentumRef(w, g, m, _ *float32, h []float32) {
	x := float32(*g*h[0]) + float32(*w*h[1])
	*m = float32(h[3]**m) + x
	*w -= float32(h[2] * (float32(h[4]*x) + float32(h[5]**m)))
}

func sophiaRef(w, g, m, c *float32, h []float32) {
	const keep, rest float32 = 0.99, 0.4
	*c = float32(keep**c) + float32(rest*float32(*g**g))
	*m = float32(h[2]**m) + float32(h[3]*float32(*g*h[0]))
	size := float32(math.Abs(float64(*m)))
	t := min(size/(float32(h[5]**c)+h[6]), 1)
	step := float32(math.Copysign(float64(float32(h[4]*t)), float64(*m)))
	*w = float32(*w*h[1]) - step
}

// testAdafactor: with factors and without, bit for bit, over three steps.
func testAdafactor(b *bench) {
	h := []float32{0.5, 0.999, 0.7, 0.3, 1e-30, 1, 1e-2}
	for _, s := range shapes {
		rows, cols, pad := s[0], s[1], s[2]
		for _, factored := range []bool{true, false} {
			w := b.rand(rows, cols)
			f := &factorRef{rows: rows, cols: cols, w: narrow(w.v), r: make([]float32, rows*cols)}
			tw, tr, tc := b.put(w, pad), b.put(zeros(rows, cols), pad), kernels.Tensor{}
			if factored {
				f.r, f.c = make([]float32, rows), make([]float32, cols)
				tr, tc = b.put(zeros(1, rows), 0), b.put(zeros(1, cols), 0)
			}
			hyper := b.put(mat{1, len(h), widen(h)}, 0)
			for range 3 {
				g := b.rand(rows, cols)
				b.s.Adafactor(tw, b.put(g, pad), tr, tc, hyper)
				f.step(narrow(g.v), h)
			}
			b.same("adafactor w", b.get(tw), f.w)
			b.same("adafactor r", b.get(tr), f.r)
			if factored {
				b.same("adafactor c", b.get(tc), f.c)
			}
			b.done()
		}
	}
}

// factorRef is Stream.Adafactor as written there.
type factorRef struct {
	rows, cols int
	w, r, c    []float32 // c is nil: r has moments of elements
}

func (f *factorRef) step(g, h []float32) {
	q := make([]float32, len(g))
	for i, x := range g {
		x *= h[0]
		q[i] = float32(x*x) + h[4]
	}
	u := make([]float32, len(g))
	if f.c != nil {
		f.factored(u, g, q, h)
	} else {
		for i, x := range q {
			f.r[i] = float32(h[2]*f.r[i]) + float32(h[3]*x)
			u[i] = float32(g[i]*h[0]) * float32(1/math.Sqrt(float64(f.r[i])))
		}
	}
	total := 0.0
	for i := range f.rows {
		var l [16]float64
		for j, x := range u[i*f.cols : (i+1)*f.cols] {
			l[j%16] += float64(x) * float64(x)
		}
		total += foldLanes(l)
	}
	rms := math.Sqrt(total / float64(len(u)))
	rate := float32(-float64(h[6]) / max(1, rms/float64(h[5])))
	for i := range u {
		f.w[i] = float32(f.w[i]*h[1]) + float32(rate*u[i])
	}
}

func (f *factorRef) factored(u, g, q, h []float32) {
	mean := 0.0
	for i := range f.rows {
		var l [16]float32
		for j, x := range q[i*f.cols : (i+1)*f.cols] {
			l[j%16] += x
		}
		f.r[i] = float32(h[2]*f.r[i]) + float32(h[3]*(foldLanes(l)/float32(f.cols)))
		mean += float64(f.r[i])
	}
	mean /= float64(f.rows)
	for j := range f.cols {
		sum := float32(0)
		for i := range f.rows {
			sum += q[i*f.cols+j]
		}
		f.c[j] = float32(h[2]*f.c[j]) + float32(h[3]*(sum/float32(f.rows)))
	}
	for i := range u {
		a, c := float32(1/math.Sqrt(float64(f.r[i/f.cols])/mean)), float32(1/math.Sqrt(float64(f.c[i%f.cols])))
		u[i] = float32(float32(g[i]*h[0])*a) * c
	}
}

func foldLanes[F float32 | float64](l [16]F) F {
	for h := 8; h > 0; h /= 2 {
		for j := range h {
			l[j] += l[j+h]
		}
	}
	return l[0]
}

// testDynamic8: codes and decoded numbers are those of kernels/dtype, for blocks of all kinds and lengths.
func testDynamic8(b *bench) {
	for _, n := range []int{1, 15, 256, 300, 1024 + 7} {
		for _, signed := range []bool{true, false} {
			d, x := dtype.NewDynamic(signed), b.rand(1, n)
			for i := range x.v {
				x.v[i] = float64(float32(x.v[i] * math.Exp(6*b.rng.NormFloat64())))
				if i/256%3 == 2 {
					x.v[i] = 0
				}
				if !signed {
					x.v[i] = math.Abs(x.v[i])
				}
			}
			code, scale := b.codes(n)
			back := b.arena.F32(1, n)
			b.s.Encode8(code, scale, b.put(x, 0), signed)
			b.s.Decode8(back, code, scale, signed)
			b.same("decoded", b.get(back), recoded(d, narrow(x.v)))
			b.done()
		}
	}
}

func (b *bench) codes(n int) (code, scale kernels.Tensor) {
	code, scale = b.arena.Tensor(dtype.I8, 1, n), b.arena.F32(1, dtype.Blocks(n, dtype.DynamicBlock))
	b.s.Fill(scale, 0)
	return code, scale
}

// recoded is x stored in the dynamic 8 bit form and read again.
func recoded(d *dtype.Dynamic, x []float32) []float32 {
	out := make([]float32, len(x))
	for lo := 0; lo < len(x); lo += dtype.DynamicBlock {
		part := x[lo:min(len(x), lo+dtype.DynamicBlock)]
		s := d.Scale(part)
		for i, v := range part {
			if s != 0 {
				out[lo+i] = float32(d.Values[d.Code(v/s)]*s) + 0
			}
		}
	}
	return out
}

// testAdamW8 is AdamW with moments that are stored and read again between steps.
func testAdamW8(b *bench) {
	signed, plain := dtype.NewDynamic(true), dtype.NewDynamic(false)
	for _, n := range []int{5, 256, 777} {
		w := b.rand(1, n)
		tw := b.put(w, 0)
		mc, ms := b.codes(n)
		vc, vs := b.codes(n)
		ws, m, v := narrow(w.v), make([]float32, n), make([]float32, n)
		for t := 1; t <= 3; t++ {
			g := b.rand(1, n)
			h := adamHyper(0.5, 1e-3, 0.9, 0.95, 1e-8, 0.1, t)
			b.s.AdamW8(tw, b.put(g, 0), mc, vc, ms, vs, b.put(mat{1, 9, widen(h[:])}, 0))
			adamRef(ws, narrow(g.v), m, v, h)
			m, v = recoded(signed, m), recoded(plain, v)
		}
		back := b.arena.F32(1, n)
		b.same("adamw8 w", b.get(tw), ws)
		b.s.Decode8(back, mc, ms, true)
		b.same("adamw8 m", b.get(back), m)
		b.s.Decode8(back, vc, vs, false)
		b.same("adamw8 v", b.get(back), v)
		b.done()
	}
}
