// Package kerneltest is the conformance suite of compute backends: every op of kernels.Stream against float64, at odd
// sizes, with strides, in both modes, and every gradient against finite differences of the float64 forward.
//
// A backend's test calls Run. The references here are the definition of the ops; they are written to be read.
package kerneltest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// Run runs the suite on a device.
func Run(t *testing.T, dev kernels.Device) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.test(newBench(t, dev, 1<<20)) })
	}
}

// Names lists the tests of the suite.
func Names() (out []string) {
	for _, c := range cases {
		out = append(out, c.name)
	}
	return out
}

// RunApart runs one test of the suite with each tensor in a buffer of its own, for devices that notice what lies outside
// of a buffer.
func RunApart(t *testing.T, dev kernels.Device, name string) {
	one(newBench(t, dev, 0), name)
}

// RunNear runs one test of the suite for devices that do not sum all products of matrices in one order: two ways to the
// same product agree within a tolerance, where Run wants the same bits.
func RunNear(t *testing.T, dev kernels.Device, name string) {
	b := newBench(t, dev, 1<<20)
	b.near = true
	one(b, name)
}

func one(b *bench, name string) {
	for _, c := range cases {
		if c.name == name {
			c.test(b)
		}
	}
}

var cases = []struct {
	name string
	test func(*bench)
}{
	{"MatMul", testMatMul}, {"MatMulSpecial", testMatMulSpecial}, {"MatMulHalf", testMatMulHalf},
	{"MatMulQuantized", testMatMulQuantized}, {"Frozen", testFrozen}, {"HalfOps", testHalfOps}, {"HalfProducts", testHalfProducts},
	{"Elementwise", testElementwise}, {"Gated", testGated}, {"Activations", testActivations}, {"Special", testSpecial}, {"Convert", testConvert},
	{"SumRows", testSumRows}, {"RMSNorm", testRMSNorm}, {"LayerNorm", testLayerNorm}, {"AddNorm", testAddNorm}, {"Rope", testRope},
	{"Attention", testAttention}, {"AttentionCache", testAttentionCache}, {"AttentionHalf", testAttentionHalf}, {"Rows", testRows}, {"ArgMax", testArgMax},
	{"Head", testHead}, {"HeadChunks", testHeadChunks}, {"Drop", testDrop}, {"SumSq", testSumSq}, {"WeightedSum", testWeightedSum},
	{"Quotient", testQuotient}, {"AdamW", testAdamW},
	{"Updates", testUpdates}, {"Adafactor", testAdafactor}, {"Dynamic8", testDynamic8}, {"AdamW8", testAdamW8}, {"Wire", testWire},
	{"F16", testF16}, {"F16Products", testF16Products}, {"InPlace", testInPlace}, {"NaN", testNaN}, {"BadRows", testBadRows},
}

// bench is what one test works with.
type bench struct {
	*testing.T
	s     *kernels.Stream
	arena *kernels.Arena
	apart bool // tensors have buffers of their own
	near  bool // the same product need not have the same bits
	rng   *rand.Rand
	made  []placed
}

// placed is a strided tensor inside a frame whose other elements nobody may write.
type placed struct {
	frame, t kernels.Tensor
	pad      int
}

func newBench(t *testing.T, dev kernels.Device, slab int) *bench {
	b := &bench{T: t, s: kernels.NewStream(dev), arena: kernels.NewArena(dev, slab), apart: slab == 0}
	b.rng = rand.New(rand.NewPCG(1, 2))
	t.Cleanup(func() { b.arena.Free() })
	return b
}

// mat is a matrix in float64 whose elements are float32 numbers until a reference computes with them.
type mat struct {
	rows, cols int
	v          []float64
}

func zeros(rows, cols int) mat { return mat{rows, cols, make([]float64, rows*cols)} }

func (m mat) at(i, j int) float64     { return m.v[i*m.cols+j] }
func (m mat) set(i, j int, x float64) { m.v[i*m.cols+j] = x }
func (m mat) row(i int) []float64     { return m.v[i*m.cols : (i+1)*m.cols] }
func (m mat) clone() mat              { return mat{m.rows, m.cols, append([]float64(nil), m.v...)} }

// plus is m + f·x.
func (m mat) plus(f float64, x mat) mat {
	out := m.clone()
	for i, v := range x.v {
		out.v[i] += f * v
	}
	return out
}

// rand makes a matrix of standard normal numbers.
func (b *bench) rand(rows, cols int) mat {
	m := zeros(rows, cols)
	for i := range m.v {
		m.v[i] = float64(float32(b.rng.NormFloat64()))
	}
	return m
}

// sentinel fills the elements around strided tensors.
const sentinel = 12345.5

// put places m on the device: a window of a larger frame with pad columns on the right and a row above and below, or
// packed if pad is 0.
func (b *bench) put(m mat, pad int) kernels.Tensor {
	if pad == 0 {
		t := b.arena.F32(m.rows, m.cols)
		b.s.Upload(t, narrow(m.v))
		return t
	}
	frame := b.arena.F32(m.rows+2, m.cols+pad)
	b.s.Fill(frame, sentinel)
	t := frame.SliceRows(1, m.rows+1).SliceCols(0, m.cols)
	b.s.Upload(t, narrow(m.v))
	b.made = append(b.made, placed{frame, t, pad})
	return t
}

// putAs places m as another type, a window of a larger frame if pad is not 0.
func (b *bench) putAs(typ dtype.Type, m mat, pad int) kernels.Tensor {
	src := b.put(m, 0)
	if typ == dtype.F32 && pad == 0 {
		return src
	}
	dst := b.arena.Tensor(typ, m.rows, m.cols+pad).SliceCols(0, m.cols)
	b.s.Copy(dst, src)
	return dst
}

// ints places a column or matrix of integers.
func (b *bench) ints(cols int, v ...int32) kernels.Tensor {
	t := b.arena.I32(len(v)/cols, cols)
	b.s.UploadI32(t, v)
	return t
}

// get reads a tensor, and checks once that nobody wrote around the strided tensors made so far.
func (b *bench) get(t kernels.Tensor) mat {
	b.Helper()
	v := make([]float32, t.Len())
	if err := b.s.Download(v, t); err != nil {
		b.Fatal(err)
	}
	b.checkFrames()
	return mat{t.Rows, t.Cols, widen(v)}
}

func (b *bench) checkFrames() {
	b.Helper()
	for _, p := range b.made {
		v := make([]float32, p.frame.Len())
		if err := b.s.Download(v, p.frame); err != nil {
			b.Fatal(err)
		}
		for i, x := range v {
			r, c := i/p.frame.Cols, i%p.frame.Cols
			inside := r > 0 && r <= p.t.Rows && c < p.t.Cols
			if !inside && x != sentinel {
				b.Fatalf("wrote %v outside a tensor %v, at row %d column %d of its frame", x, p.t, r-1, c)
			}
		}
	}
	b.made = b.made[:0]
}

// done ends a case: memory is free for the next.
func (b *bench) done() {
	b.Helper()
	if err := b.s.Sync(context.Background()); err != nil {
		b.Fatal(err)
	}
	if b.arena.Reset(); b.apart {
		b.arena.Free()
	}
	b.made = b.made[:0]
}

// close compares with a tolerance relative to the largest element wanted, or to 0.1 if all are smaller: operands here
// are about 1, and so are the terms of sums that cancel. NaN and infinities must agree.
func (b *bench) close(what string, got, want mat, tol float64) {
	b.Helper()
	scale := 0.1
	for _, w := range want.v {
		if a := math.Abs(w); a > scale && !math.IsInf(w, 0) {
			scale = a
		}
	}
	for i, w := range want.v {
		g := got.v[i]
		if g == w || math.IsNaN(g) && math.IsNaN(w) || math.Abs(g-w) <= tol*scale {
			continue
		}
		b.Fatalf("%s: row %d column %d is %v, want %v (tolerance %.2g of %.3g)", what, i/want.cols, i%want.cols, g, w, tol, scale)
	}
}

// same compares bits.
func (b *bench) same(what string, got mat, want []float32) {
	b.Helper()
	for i, w := range want {
		if g := float32(got.v[i]); math.Float32bits(g) != math.Float32bits(w) && !(g != g && w != w) {
			b.Fatalf("%s: element %d is %v (%08x), want %v (%08x)", what, i, g, math.Float32bits(g), w, math.Float32bits(w))
		}
	}
}

// sameProduct compares two ways to one product.
func (b *bench) sameProduct(what string, got, want mat) {
	b.Helper()
	if b.near {
		b.close(what, got, want, 2e-5)
		return
	}
	b.same(what, got, narrow(want.v))
}

// slope is the gradient of loss with respect to x by central differences. loss must read x each time.
func slope(x mat, loss func() float64) mat {
	const h = 1e-5
	g := zeros(x.rows, x.cols)
	for i, v := range x.v {
		x.v[i] = v + h
		up := loss()
		x.v[i] = v - h
		g.v[i] = (up - loss()) / (2 * h)
		x.v[i] = v
	}
	return g
}

// inner is Σ a·b: with it a matrix of output gradients becomes a loss.
func inner(a, b mat) float64 {
	s := 0.0
	for i := range a.v {
		s += a.v[i] * b.v[i]
	}
	return s
}

// base is what an output holds before the op: zeros would hide a Set that adds.
func (b *bench) base(rows, cols int) mat { return b.rand(rows, cols) }

// expect is want, or prev + want in Add mode.
func expect(mode kernels.Mode, prev, want mat) mat {
	if mode == kernels.Add {
		return prev.plus(1, want)
	}
	return want
}

var modes = []kernels.Mode{kernels.Set, kernels.Add}

func modeName(m kernels.Mode) string {
	if m == kernels.Add {
		return "add"
	}
	return "set"
}

func narrow(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}

func widen(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

func label(parts ...any) string { return fmt.Sprint(parts...) }
