package kerneltest

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// testDrop checks the mask against its written definition, the rate, and that rows do not depend on their place.
func testDrop(b *bench) {
	const seed, site, rate = 0x123456789abcdef0, 7, 0.25
	n, cols := 6, 333
	x, prev := b.rand(n, cols), b.base(n, cols)
	key := []int32{0, 0, 0, 1, 5, 0, 5, 1, -1, 3, 1 << 30, 9}
	for _, mode := range modes {
		y := b.put(prev, 3)
		b.s.Drop(y, b.put(x, 2), kernels.Dropout{Rate: rate, Seed: seed, Site: site, Step: b.ints(1, 11), Key: b.ints(2, key...)}, mode)
		want, kept := zeros(n, cols), 0
		for i := range n {
			h := finalize(finalize(finalize(seed+11)^(uint64(uint32(key[2*i]))<<32|uint64(uint32(key[2*i+1])))) ^ site)
			for j := range cols {
				if finalize(h+uint64(j)*0x9e3779b97f4a7c15)>>40 >= rate*(1<<24) {
					want.set(i, j, float64(float32(x.at(i, j))*(1/(1-float32(rate)))))
					kept++
				}
			}
		}
		b.close("drop", b.get(y), expect(mode, prev, want), 2e-7)
		if f := float64(kept) / float64(n*cols); math.Abs(f-0.75) > 0.04 {
			b.Errorf("kept %.3f of the elements at rate %v", f, rate)
		}
		b.done()
	}
}

// finalize is the finalizer of splitmix64.
func finalize(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func testSumSq(b *bench) {
	b.eachShape(func(rows, cols, pad int, mode kernels.Mode) {
		x := b.rand(rows, cols)
		dst, got := b.arena.Tensor(dtype.F64, 1, 1), make([]float64, 1)
		b.s.Fill(dst, 2.5)
		b.s.SumSq(dst, b.put(x, pad), mode)
		var l [16]float64
		for i, v := range x.v {
			l[i%16] += v * v
		}
		for h := 8; h > 0; h /= 2 {
			for j := range h {
				l[j] += l[j+h]
			}
		}
		if want := l[0] + 2.5*float64(mode); b.s.DownloadF64(got, dst) != nil || got[0] != want {
			b.Fatalf("sum of squares of (%d,%d) is %v, want exactly %v", rows, cols, got[0], want)
		}
	})
}

func testWeightedSum(b *bench) {
	b.eachShape(func(rows, cols, pad int, mode kernels.Mode) {
		x, prev := b.rand(rows, cols), b.base(rows, cols)
		dst := b.put(prev, pad)
		b.s.WeightedSum(dst, b.put(x, pad), 0.7, mode)
		want := make([]float32, len(x.v))
		for i := range want {
			want[i] = float32(float32(0.7) * float32(x.v[i]))
			if mode == kernels.Add {
				want[i] += float32(prev.v[i])
			}
		}
		b.same("weighted sum", b.get(dst), want)
	})
}

func testQuotient(b *bench) {
	for _, s := range shapes {
		rows, cols, pad := s[0], s[1], s[2]
		x := b.rand(rows, cols)
		x.v[0] = 0x1p-140 // and what becomes too small for all its bits
		dst := b.put(zeros(rows, cols), pad)
		b.s.Quotient(dst, b.put(x, pad), 1021)
		want := make([]float32, len(x.v))
		for i := range want {
			want[i] = float32(x.v[i] / 1021) // two roundings of a quotient of float32 are one
		}
		b.same("quotient", b.get(dst), want)
		b.done()
	}
}

// testAdamW: the written order in float32, bit for bit, over three steps.
func testAdamW(b *bench) {
	for _, s := range shapes {
		rows, cols, pad := s[0], s[1], s[2]
		w, m, v := b.rand(rows, cols), zeros(rows, cols), zeros(rows, cols)
		tw, tm, tv := b.put(w, pad), b.put(m, pad), b.put(v, pad)
		ws, ms, vs := narrow(w.v), narrow(m.v), narrow(v.v)
		for t := 1; t <= 3; t++ {
			g := b.rand(rows, cols)
			g.v[0] = 0 // 0/(0+eps) is 0
			h := adamHyper(0.5, 1e-3, 0.9, 0.95, 1e-8, 0.1, t)
			hyper := b.put(mat{1, 9, widen(h[:])}, 0)
			b.s.AdamW(tw, b.put(g, pad), tm, tv, hyper)
			adamRef(ws, narrow(g.v), ms, vs, h)
		}
		b.same("adamw w", b.get(tw), ws)
		b.same("adamw m", b.get(tm), ms)
		b.same("adamw v", b.get(tv), vs)
		b.done()
	}
}

func adamHyper(clip, lr, b1, b2, eps, wd float64, t int) [9]float32 {
	c1, c2 := 1-math.Pow(b1, float64(t)), 1-math.Pow(b2, float64(t))
	return [9]float32{float32(clip), float32(1 - lr*wd), float32(b1), float32(1 - b1), float32(b2), float32(1 - b2),
		float32(math.Sqrt(c2)), float32(eps), float32(lr / c1)}
}

func adamRef(w, g, m, v []float32, h [9]float32) {
	for i := range w {
		gi := float32(g[i] * h[0])
		w[i] = float32(w[i] * h[1])
		m[i] = float32(h[2]*m[i]) + float32(h[3]*gi)
		v[i] = float32(h[4]*v[i]) + float32(h[5]*float32(gi*gi))
		root := float32(math.Sqrt(float64(v[i])))
		w[i] -= float32(h[8] * float32(m[i]/float32(float32(root/h[6])+h[7])))
	}
}
