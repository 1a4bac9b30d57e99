package cpu

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// newGeneric is the family in plain Go. It says what each kernel computes, rounding by rounding; the assembly
// families are tested against it bit for bit. The conversions to float32 around products keep the compiler from
// fusing them with a sum, which the language allows.
func newGeneric() *family {
	return &family{
		name: "generic",
		gemm: microkernel{mr: 4, nr: 4, step: 1, run: gemm4x4},
		slim: []microkernel{{mr: 4, nr: 4, step: 1, run: gemm4x4}},

		add:    map2(func(_ *args, x, y float32) float32 { return x + y }),
		mul:    map2(func(_ *args, x, y float32) float32 { return x * y }),
		mulAdd: update2(func(_ *args, z, x, y float32) float32 { return fma(x, y, z) }),

		scale:    map1(func(a *args, x float32) float32 { return a.f[0] * x }),
		axpy:     update1(func(a *args, z, x float32) float32 { return fma(a.f[0], x, z) }),
		scaleAdd: update1(func(a *args, z, x float32) float32 { return z + float32(a.f[0]*x) }),

		quotient:      map1(func(a *args, x float32) float32 { return x / a.f[0] }),
		affine:        map1(func(a *args, x float32) float32 { return (x - a.f[0]) * a.f[1] }),
		normScale:     map2(func(a *args, x, w float32) float32 { return float32(x*a.f[0]) * (w + a.f[1]) }),
		normScaleBias: kernel{run: normScaleBias, outs: 1},
		rmsDot:        kernel{run: rmsDot},
		rmsBack:       kernel{run: rmsBack, outs: 1},
		rmsBackAdd:    kernel{run: rmsBackAdd, outs: 1},
		rmsWeight:     update2(func(a *args, z, x, y float32) float32 { return fma(float32(x*a.f[0]), y, z) }),
		lnBack:        map2(lnBack),
		lnBackAdd:     update2(func(a *args, z, x, y float32) float32 { return z + float32(lnBack(a, x, y)) }),
		lnWeight:      update2(func(a *args, z, x, y float32) float32 { return fma(float32((x-a.f[0])*a.f[1]), y, z) }),

		dot:      kernel{run: dotLanes},
		sum:      kernel{run: sumLanes},
		max:      kernel{run: maxLanes, pad: negInf},
		expSum:   kernel{run: expSum, outs: 1, pad: negInf},
		expScale: kernel{run: expScale, outs: 1, pad: negInf},
		softBack: map2(func(a *args, p, d float32) float32 { return float32(p*(d-a.f[0])) * a.f[1] }),

		swiglu:        map2(func(_ *args, g, u float32) float32 { return float32(g*sigmoid(g)) * u }),
		swigluBack:    kernel{run: swigluBack, outs: 2},
		swigluBackAdd: kernel{run: swigluBackAdd, outs: 2},
		gelu:          map1(func(_ *args, x float32) float32 { return x * sigmoid(geluInner(x)) }),
		geluBack:      map2(func(_ *args, dy, x float32) float32 { return dy * geluSlope(x) }),
		geluBackAdd:   update2(func(_ *args, z, dy, x float32) float32 { return z + float32(dy*geluSlope(x)) }),

		widen:    kernel{run: widenHalves, outs: 1},
		narrow:   kernel{run: narrowToHalves, outs: 1},
		round:    map1(func(_ *args, x float32) float32 { return dtype.FromBF16(dtype.ToBF16(x)) }),
		roundF16: map1(func(_ *args, x float32) float32 { return dtype.FromF16(dtype.ToF16(x)) }),

		sumSq:   kernel{run: sumSqLanes},
		traffic: kernel{run: addToThree, outs: 3},
		adamw:   kernel{run: adamwStep, outs: 3},

		lion:           kernel{run: lionStep, outs: 2},
		sgd:            update1(sgdStep),
		momentum:       kernel{run: momentumStep, outs: 2},
		sophia:         kernel{run: sophiaStep, outs: 2},
		averageSquares: update1(func(a *args, z, x float32) float32 { return float32(a.f[0]*z) + float32(a.f[1]*float32(x*x)) }),
		squares:        map1(squared),
		addSquares:     update1(func(a *args, z, x float32) float32 { return z + squared(a, x) }),
		absMax:         kernel{run: absMaxLanes},
		decode:         kernel{run: decodeBytes, outs: 1},
		encode:         kernel{run: encodeBytes, outs: 1},
		encodeSigned:   kernel{run: encodeSignedBytes, outs: 1},
	}
}

// map1 makes a kernel x0 = f(x1); map2 x0 = f(x1, x2); update1 and update2 also read x0.
func map1(f func(a *args, x float32) float32) kernel {
	return kernel{outs: 1, run: func(a *args) {
		z, x := a.operand(0), a.operand(1)
		for i := range z {
			z[i] = f(a, x[i])
		}
	}}
}

func map2(f func(a *args, x, y float32) float32) kernel {
	return kernel{outs: 1, run: func(a *args) {
		z, x, y := a.operand(0), a.operand(1), a.operand(2)
		for i := range z {
			z[i] = f(a, x[i], y[i])
		}
	}}
}

func update1(f func(a *args, z, x float32) float32) kernel {
	return kernel{outs: 1, run: func(a *args) {
		z, x := a.operand(0), a.operand(1)
		for i := range z {
			z[i] = f(a, z[i], x[i])
		}
	}}
}

func update2(f func(a *args, z, x, y float32) float32) kernel {
	return kernel{outs: 1, run: func(a *args) {
		z, x, y := a.operand(0), a.operand(1), a.operand(2)
		for i := range z {
			z[i] = f(a, z[i], x[i], y[i])
		}
	}}
}

func normScaleBias(a *args) {
	z, x, w, b := a.operand(0), a.operand(1), a.operand(2), a.operand(3)
	for i := range z {
		z[i] = fma(float32((x[i]-a.f[0])*a.f[1]), w[i], b[i])
	}
}

func rmsDot(a *args) {
	dy, x, w := a.operand(0), a.operand(1), a.operand(2)
	for i := range dy {
		a.acc[i%lanes] = fma(float32(dy[i]*(w[i]+a.f[0])), x[i], a.acc[i%lanes])
	}
}

func rmsBack(a *args) {
	dx, dy, x, w := a.operand(0), a.operand(1), a.operand(2), a.operand(3)
	for i := range dx {
		dx[i] = rmsSlope(a, dy[i], x[i], w[i])
	}
}

func rmsBackAdd(a *args) {
	dx, dy, x, w := a.operand(0), a.operand(1), a.operand(2), a.operand(3)
	for i := range dx {
		dx[i] += rmsSlope(a, dy[i], x[i], w[i])
	}
}

func rmsSlope(a *args, dy, x, w float32) float32 {
	return fma(-a.f[2], x, a.f[0]*float32(dy*(w+a.f[1])))
}

func lnBack(a *args, t, xhat float32) float32 {
	return fma(-a.f[1], xhat, t-a.f[0]) * a.f[2]
}

func dotLanes(a *args) {
	x, y := a.operand(0), a.operand(1)
	for i := range x {
		a.acc[i%lanes] = fma(x[i], y[i], a.acc[i%lanes])
	}
}

func sumLanes(a *args) {
	for i, x := range a.operand(0) {
		a.acc[i%lanes] += x
	}
}

// maxLanes keeps the lane unless x is greater; a NaN in x is passed over.
func maxLanes(a *args) {
	for i, x := range a.operand(0) {
		if x > a.acc[i%lanes] {
			a.acc[i%lanes] = x
		}
	}
}

func expSum(a *args) {
	z, x := a.operand(0), a.operand(1)
	for i := range z {
		z[i] = exp(x[i] - a.f[0])
		a.acc[i%lanes] += z[i]
	}
}

func expScale(a *args) {
	z, x := a.operand(0), a.operand(1)
	for i := range z {
		z[i] = exp(float32(x[i]*a.f[1]) - a.f[0])
		a.acc[i%lanes] += z[i]
	}
}

func swigluBack(a *args) {
	dg, du := a.operand(0), a.operand(1)
	dy, g, u := a.operand(2), a.operand(3), a.operand(4)
	for i := range dg {
		dg[i], du[i] = swigluSlopes(dy[i], g[i], u[i])
	}
}

func swigluBackAdd(a *args) {
	dg, du := a.operand(0), a.operand(1)
	dy, g, u := a.operand(2), a.operand(3), a.operand(4)
	for i := range dg {
		x, y := swigluSlopes(dy[i], g[i], u[i])
		dg[i] += x
		du[i] += y
	}
}

// swigluSlopes: with s = σ(g), d(gate) = dy·u·(s + g·s·(1-s)) and d(up) = dy·g·s.
func swigluSlopes(dy, g, u float32) (dg, du float32) {
	s := sigmoid(g)
	y := float32(g * s)
	return float32(float32(dy*u) * fma(y, 1-s, s)), float32(dy * y)
}

// geluInner is 2u of the tanh form.
func geluInner(x float32) float32 { return x * fma(float32(x*x), geluB, geluA) }

// geluSlope is d(gelu)/dx = s + x·s·(1-s)·(geluA + 3·geluB·x²).
func geluSlope(x float32) float32 {
	s := sigmoid(geluInner(x))
	t := x * fma(float32(x*x), 3*geluB, geluA)
	return fma(t, float32(s*(1-s)), s)
}

func sumSqLanes(a *args) {
	for i, x := range a.operand(0) {
		a.sum[i%lanes] += float64(x) * float64(x) // exact product: fusing would change nothing
	}
}

func widenHalves(a *args) {
	x := a.halves(1)
	for i, z := 0, a.operand(0); i < len(z); i++ {
		z[i] = dtype.FromBF16(x[i])
	}
}

func narrowToHalves(a *args) {
	z := a.halves(0)
	for i, x := range a.operand(1) {
		z[i] = dtype.ToBF16(x)
	}
}

func addToThree(a *args) {
	w, m, v := a.operand(0), a.operand(1), a.operand(2)
	for i, g := range a.operand(3) {
		w[i], m[i], v[i] = w[i]+g, m[i]+g, v[i]+g
	}
}

// adamwStep follows the comment of Stream.AdamW. The conversions keep a compiler from fusing.
func adamwStep(a *args) {
	w, m, v, g := a.operand(0), a.operand(1), a.operand(2), a.operand(3)
	h := &a.f
	for i := range w {
		gi := float32(g[i] * h[0])
		mi := float32(h[2]*m[i]) + float32(h[3]*gi)
		vi := float32(h[4]*v[i]) + float32(h[5]*float32(gi*gi))
		root := float32(math.Sqrt(float64(vi)))
		step := float32(h[8] * float32(mi/(float32(root/h[6])+h[7])))
		w[i], m[i], v[i] = float32(w[i]*h[1])-step, mi, vi
	}
}
