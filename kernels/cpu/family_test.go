package cpu

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"unsafe"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// TestArgsLayout: the offsets that the generated assembly has.
func TestArgsLayout(t *testing.T) {
	var a args
	if unsafe.Offsetof(a.n) != 0 || unsafe.Offsetof(a.x) != 8 || unsafe.Offsetof(a.f) != 48 || unsafe.Offsetof(a.acc) != 96 || unsafe.Offsetof(a.sum) != 160 {
		t.Error("args and kernels/gen do not agree")
	}
}

// TestFamiliesAgree: every kernel of every family gives the bits of the generic one, on ordinary and special numbers.
func TestFamiliesAgree(t *testing.T) {
	generic := newGeneric()
	for _, f := range families() {
		for name, k := range kernelsOf(f) {
			ref := kernelsOf(generic)[name]
			if k.outs != ref.outs || k.pad != ref.pad && !(k.pad != k.pad) {
				t.Errorf("%s %s: outs %d pad %v, generic has %d and %v", f.name, name, k.outs, k.pad, ref.outs, ref.pad)
			}
			for seed := range uint64(4) {
				got, want := newOperands(seed), newOperands(seed)
				k.run(&got.args)
				ref.run(&want.args)
				got.compare(t, f.name+" "+name, want)
			}
		}
	}
}

func kernelsOf(f *family) map[string]kernel {
	out := map[string]kernel{}
	v := reflect.ValueOf(f).Elem()
	for i := range v.NumField() {
		if v.Field(i).Type() == reflect.TypeFor[kernel]() {
			out[v.Type().Field(i).Name] = *(*kernel)(unsafe.Pointer(v.Field(i).UnsafeAddr()))
		}
	}
	return out
}

// operands is an argument block with memory for all its operands.
type operands struct {
	args
	v [maxOperands][]float32
}

func newOperands(seed uint64) *operands {
	const n = 1600
	r := rand.New(rand.NewPCG(seed, 0))
	number := func() float32 {
		if seed%2 == 1 && r.IntN(4) == 0 {
			return special[r.IntN(len(special))]
		}
		return float32(r.NormFloat64() * math.Exp(3*r.NormFloat64()))
	}
	o := &operands{}
	o.n = n
	for i := range o.v {
		o.v[i] = make([]float32, n)
		for j := range o.v[i] {
			o.v[i][j] = number()
		}
		o.x[i] = &o.v[i][0]
	}
	for i := range o.f {
		o.f[i] = float32(math.Abs(r.NormFloat64()))
	}
	for i := range o.acc {
		o.acc[i], o.sum[i] = float32(r.NormFloat64()), r.NormFloat64()
	}
	return o
}

var special = []float32{0, float32(math.Copysign(0, -1)), 1, -1, float32(math.Inf(1)), negInf, float32(math.NaN()), math.MaxFloat32, -math.MaxFloat32,
	math.SmallestNonzeroFloat32, 1e-40, -1e-40, 88.7, -87.3, -103.9, 104, 1 << 24}

func (o *operands) compare(t *testing.T, what string, want *operands) {
	t.Helper()
	for i := range o.v {
		for j, g := range o.v[i] {
			if w := want.v[i][j]; math.Float32bits(g) != math.Float32bits(w) && !(g != g && w != w) {
				t.Fatalf("%s: operand %d element %d is %v (%x), want %v (%x)", what, i, j, g, math.Float32bits(g), w, math.Float32bits(w))
			}
		}
	}
	for i := range o.acc {
		g, w, gs, ws := o.acc[i], want.acc[i], o.sum[i], want.sum[i]
		if g != w && !(g != g && w != w) || gs != ws && !(gs != gs && ws != ws) {
			t.Fatalf("%s: lane %d is %v and %v, want %v and %v", what, i, g, gs, w, ws)
		}
	}
}

// TestGemmBits: any family and any number of workers give the same bits, for all ways to read the operands.
func TestGemmBits(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	fs := families()
	if testing.Short() {
		fs = fs[:1] // the fastest: the definition is compared with anyway
	}
	for _, d := range [][3]int{{1, 1, 1}, {7, 33, 300}, {64, 64, 513}, {131, 290, 70}} {
		if testing.Short() && d[0] > 64 {
			continue
		}
		for variant := range 8 {
			m, n, k := d[0], d[1], d[2]
			a, b := newMat(r, m, k), newMat(r, k, n)
			if variant&1 != 0 {
				a = newMat(r, k, m)
			}
			if variant&2 != 0 {
				b = newMat(r, n, k)
			}
			start := newMat(r, m, n)
			var want []float32
			for _, f := range fs {
				p := newPool(f, newMemory())
				c := mat[float32]{append([]float32(nil), start.p...), m, n, n}
				job := product{c: matrix{mat: c}, a: plain(a, variant&1 != 0), b: plain(b, variant&2 != 0), add: variant&4 != 0}
				if variant%3 == 0 {
					p.work[0].gemm(job)
				} else {
					(&Device{fam: f, pool: p}).gemm(job)
				}
				p.close()
				if want == nil {
					want = chain(job, start)
				}
				for i, w := range want {
					if c.p[i] != w {
						t.Fatalf("%s %v variant %d: element %d is %v, want %v", f.name, d, variant, i, c.p[i], w)
					}
				}
			}
		}
	}
}

// TestGemmHalfBits: products of bfloat16 have the same bits with instructions for pairs and without, for all types of the
// operands.
func TestGemmHalfBits(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, d := range [][3]int{{1, 1, 1}, {7, 33, 301}, {20, 64, 1030}, {131, 290, 70}} {
		for variant := range 16 {
			m, n, k := d[0], d[1], d[2]
			a, b := newHalf(r, m, k, variant&1 != 0), newHalf(r, k, n, variant&2 != 0)
			c := mat[float32]{make([]float32, m*n), m, n, n}
			job := product{c: matrix{mat: c}, a: a, b: b, compute: dtype.BF16}
			want := chain(job, c)
			if variant&4 != 0 {
				job.a.half = nil
			} else {
				job.a.p = nil
			}
			if variant&8 != 0 {
				job.b.half = nil
			} else {
				job.b.p = nil
			}
			for _, f := range families() {
				d := newDevice(f, newMemory())
				clear(c.p)
				d.gemm(job)
				d.pool.close()
				for i, w := range want {
					if c.p[i] != w {
						t.Fatalf("%s (%d,%d,%d) variant %d: element %d is %v, want %v", f.name, m, n, k, variant, i, c.p[i], w)
					}
				}
			}
		}
	}
}

// newHalf is an operand in both types.
func newHalf(r *rand.Rand, rows, cols int, trans bool) operand {
	if trans {
		rows, cols = cols, rows
	}
	o := operand{matrix: matrix{mat: newMat(r, rows, cols), half: make([]uint16, rows*cols)}, trans: trans}
	for i, v := range o.p {
		o.half[i] = dtype.ToBF16(v)
		o.p[i] = dtype.FromBF16(o.half[i])
	}
	return o
}

// chain is the definition: fused multiply-adds in rising k.
func chain(p product, start mat[float32]) []float32 {
	at := func(o operand, i, j int) float32 {
		if o.trans {
			i, j = j, i
		}
		return o.row(i)[j]
	}
	k := p.a.cols
	if p.a.trans {
		k = p.a.rows
	}
	out := make([]float32, len(start.p))
	for i := range out {
		if p.add {
			out[i] = start.p[i]
		}
		for x := range k {
			out[i] = fma(at(p.a, i/start.cols, x), at(p.b, x, i%start.cols), out[i])
		}
	}
	return out
}

func newMat(r *rand.Rand, rows, cols int) mat[float32] {
	m := mat[float32]{make([]float32, rows*cols), rows, cols, cols}
	for i := range m.p {
		m.p[i] = float32(r.NormFloat64())
	}
	return m
}
