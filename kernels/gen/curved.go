package main

// The constants of kernels/cpu/exp.go; the test that compares families bit for bit notices a difference.
const (
	expHi = 89.0
	expLo = -87.4
	log2e = 1.44269504088896341
	ln2Hi = 0.693359375
	ln2Lo = -2.12194440054690583e-4
	geluA = 1.5957691216057308
	geluB = geluA * 0.044715
)

// expPoly are the coefficients of exp on [-ln 2/2, ln 2/2], highest first.
var expPoly = []struct {
	name string
	v    float32
}{
	{"expC6", 0.001393368816934526}, {"expC5", 0.008363205008208752}, {"expC4", 0.041666463017463684},
	{"expC3", 0.16666576266288757}, {"expC2", 0.5}, {"one", 1}, {"one", 1},
}

func curved() []vectorKernel {
	swigluBack := func(add bool) func(*builder, []int) {
		return func(b *builder, _ []int) { b.swigluBack(add) }
	}
	geluBack := func(add bool) func(*builder, []int) {
		return func(b *builder, _ []int) { b.geluBack(add) }
	}
	return []vectorKernel{
		{field: "expSum", operands: 2, outs: 1, scalars: 1, acc: single, pad: "negInf", doc: "x0 = exp(x1-f0), acc += x0", body: func(b *builder, acc []int) {
			b.load(1, 0)
			b.sub(0, 0, b.f(0))
			b.exp(0, 1, 2)
			b.store(0, 0)
			b.add(acc[0], acc[0], b.v(0))
		}},
		{field: "expScale", operands: 2, outs: 1, scalars: 2, acc: single, pad: "negInf", doc: "x0 = exp(f1·x1-f0), acc += x0", body: func(b *builder, acc []int) {
			b.load(1, 0)
			b.op("VMULPS", b.f(1), b.v(0), b.v(0))
			b.sub(0, 0, b.f(0))
			b.exp(0, 1, 2)
			b.store(0, 0)
			b.add(acc[0], acc[0], b.v(0))
		}},
		{field: "swiglu", operands: 3, outs: 1, doc: "x0 = (x1·σ(x1))·x2", body: func(b *builder, _ []int) {
			b.load(1, 0)
			b.sigmoid(3, 0, 1, 2)
			b.mul(0, 0, b.v(3))
			b.mul(0, 0, b.x(2))
			b.store(0, 0)
		}},
		{field: "swigluBack", operands: 5, outs: 2, doc: "x0, x1 = gradients of gate x3 and up x4 from x2", body: swigluBack(false)},
		{field: "swigluBackAdd", operands: 5, outs: 2, doc: "x0, x1 += gradients of gate x3 and up x4 from x2", body: swigluBack(true)},
		{field: "gelu", operands: 2, outs: 1, doc: "x0 = gelu(x1)", body: func(b *builder, _ []int) {
			b.load(1, 0)
			b.geluSigmoid(3, 0, 4, 1, 2)
			b.mul(0, 0, b.v(3))
			b.store(0, 0)
		}},
		{field: "geluBack", operands: 3, outs: 1, doc: "x0 = x1·gelu'(x2)", body: geluBack(false)},
		{field: "geluBackAdd", operands: 3, outs: 1, doc: "x0 += x1·gelu'(x2)", body: geluBack(true)},
	}
}

// exp replaces register x by its exponential; n and p are scratch. NaN goes through: the clamps keep their second
// operand where a comparison is false.
func (b *builder) exp(x, n, p int) {
	b.fill(n, b.float("expHi", expHi))
	b.op("VMINPS", b.v(x), b.v(n), b.v(x))
	b.fill(n, b.float("expLo", expLo))
	b.op("VMAXPS", b.v(x), b.v(n), b.v(x))
	b.mul(n, x, b.float("log2e", log2e))
	if b.regs == 32 {
		b.op("VRNDSCALEPS", "$8", b.v(n), b.v(n))
	} else {
		b.op("VROUNDPS", "$8", b.v(n), b.v(n))
	}
	b.fnma(x, n, b.float("ln2Hi", ln2Hi))
	b.fnma(x, n, b.float("ln2Lo", ln2Lo))
	b.fill(p, b.float(expPoly[0].name, expPoly[0].v))
	for _, c := range expPoly[1:] {
		b.horner(p, x, b.float(c.name, c.v))
	}
	b.op("VCVTPS2DQ", b.v(n), b.v(n))
	b.op("VPADDD", b.word("expBias", 126), b.v(n), b.v(n))
	b.op("VPSLLD", "$23", b.v(n), b.v(n)) // 2ⁿ⁻¹
	b.add(p, p, b.v(p))
	b.mul(x, p, b.v(n))
}

// sigmoid is d = 1/(1+exp(-x)); x stays.
func (b *builder) sigmoid(d, x, t1, t2 int) {
	b.fill(d, b.word("sign", 1<<31))
	b.op("VXORPS", b.v(x), b.v(d), b.v(d))
	b.exp(d, t1, t2)
	b.fill(t1, b.float("one", 1))
	b.add(d, d, b.v(t1))
	b.div(d, t1, b.v(d))
}

// swigluBack: s = σ(g), y = g·s; dg = (dy·u)·(y·(1-s) + s), du = dy·y.
func (b *builder) swigluBack(add bool) {
	b.load(3, 0)
	b.sigmoid(3, 0, 1, 2)
	b.mul(0, 0, b.v(3)) // y
	b.fill(1, b.float("one", 1))
	b.sub(1, 1, b.v(3))
	b.fma(3, 0, b.v(1)) // y·(1-s) + s
	b.load(2, 2)        // dy
	b.mul(1, 2, b.x(4))
	b.mul(1, 1, b.v(3))
	b.mul(2, 2, b.v(0))
	b.addTo(add, 1, 0)
	b.addTo(add, 2, 1)
	b.store(1, 0)
	b.store(2, 1)
}

// geluSigmoid is s = σ(x·(geluA + geluB·x²)); u, t1, t2 are scratch.
func (b *builder) geluSigmoid(s, x, u, t1, t2 int) {
	b.mul(u, x, b.v(x))
	b.fill(t1, b.float("geluA", geluA))
	b.fma(t1, u, b.float("geluB", geluB))
	b.mul(u, x, b.v(t1))
	b.sigmoid(s, u, t1, t2)
}

// geluBack: t = x·(geluA + 3·geluB·x²); slope = t·(s·(1-s)) + s.
func (b *builder) geluBack(add bool) {
	b.load(2, 0)
	b.geluSigmoid(3, 0, 4, 1, 2)
	b.mul(1, 0, b.v(0))
	b.fill(2, b.float("geluA", geluA))
	b.fma(2, 1, b.float("geluB3", 3*geluB))
	b.mul(0, 0, b.v(2)) // t
	b.fill(1, b.float("one", 1))
	b.sub(1, 1, b.v(3))
	b.mul(1, 3, b.v(1))
	b.fma(3, 0, b.v(1))
	b.mul(0, 3, b.x(1))
	b.addTo(add, 0, 0)
	b.store(0, 0)
}

// addTo adds operand i to register r in the adding variant of a kernel.
func (b *builder) addTo(add bool, r, i int) {
	if add {
		b.add(r, r, b.x(i))
	}
}
