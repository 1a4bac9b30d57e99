package optim_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/shard/layout"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/optim"
)

var decay = optim.Decay{WeightDecay: 0.1, NoDecay: []string{"norm"}}

// rules are all of them, and how each updates one element in float64; Adafactor has a test of its own.
var rules = []struct {
	name string
	optim.Rule
	step func(x *element, g, lr, wd float64, t int)
}{
	{"adamw", optim.AdamW{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: decay}, func(x *element, g, lr, wd float64, t int) {
		x.w *= 1 - lr*wd
		x.m, x.v = 0.9*x.m+0.1*g, 0.95*x.v+0.05*g*g
		x.w -= lr * x.m / (1 - math.Pow(0.9, float64(t))) / (math.Sqrt(x.v/(1-math.Pow(0.95, float64(t)))) + 1e-8)
	}},
	{"adamw8", optim.AdamW8{AdamW: optim.AdamW{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: decay}}, nil},
	{"lion", optim.Lion{Beta1: 0.9, Beta2: 0.99, Decay: decay}, func(x *element, g, lr, wd float64, _ int) {
		x.w *= 1 - lr*wd
		if c := 0.9*x.m + 0.1*g; c != 0 {
			x.w -= math.Copysign(lr, c)
		}
		x.m = 0.99*x.m + 0.01*g
	}},
	{"sophia", optim.Sophia{Beta1: 0.965, Beta2: 0.99, Rho: 0.04, Eps: 1e-15, Every: 2, Decay: decay}, func(x *element, g, lr, wd float64, t int) {
		if t%2 == 1 {
			x.v = 0.99*x.v + 0.01*30*(g/clip)*(g/clip) // estimates are not clipped
		}
		x.w *= 1 - lr*wd
		x.m = 0.965*x.m + 0.035*g
		x.w -= lr * math.Copysign(min(math.Abs(x.m)/(0.04*x.v+1e-15), 1), x.m)
	}},
	{"sgd", optim.SGD{Decay: decay}, func(x *element, g, lr, wd float64, _ int) { x.w -= lr * (g + wd*x.w) }},
	{"momentum", optim.SGD{Momentum: 0.9, Decay: decay}, func(x *element, g, lr, wd float64, _ int) {
		x.m = 0.9*x.m + g + wd*x.w
		x.w -= lr * x.m
	}},
	{"nesterov", optim.SGD{Momentum: 0.9, Nesterov: true, Decay: decay}, func(x *element, g, lr, wd float64, _ int) {
		g += wd * x.w
		x.m = 0.9*x.m + g
		x.w -= lr * (g + 0.9*x.m)
	}},
	{"adafactor", optim.Adafactor{Eps: 1e-30, Decay: decay}, nil},
}

type element struct{ w, m, v float64 }

const rate, clip = 0.01, 0.25

// run is an optimizer on tensors of its own.
type run struct {
	optim.Optimizer
	s    *kernels.Stream
	w, g kernels.Tensor
	rng  *rand.Rand
	grad []float32
	cuts [][2]int
}

func newRun(t *testing.T, r optim.Rule, params []*autograd.Param, n int) *run {
	t.Helper()
	dev := modeltest.Device(t)
	o := &run{s: kernels.NewStream(dev), rng: rand.New(rand.NewPCG(1, 1)), grad: make([]float32, n), cuts: [][2]int{{0, n}}}
	var err error
	if o.Optimizer, err = r.Open(o.s, params, n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	for _, x := range []*kernels.Tensor{&o.w, &o.g} {
		if *x, err = kernels.Alloc(dev, dtype.F32, 1, n); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// steps takes steps from the given one on with random gradients; some elements never have any.
func (o *run) steps(t *testing.T, from, n int) {
	t.Helper()
	for step := from; step < from+n; step++ {
		for i := range o.grad {
			if o.grad[i] = float32(o.rng.NormFloat64()); i%7 == 0 {
				o.grad[i] = 0 // 0/(0+eps) is 0, as for LoRA's A in its first step
			}
		}
		o.s.Upload(o.g, o.grad)
		if c, ok := o.Optimizer.(optim.Curved); ok && c.Due(uint64(step)) {
			c.Curve(o.g, 30)
		}
		for _, c := range o.cuts {
			o.Step(optim.Now{Step: uint64(step), LR: rate, Clip: clip}, o.w, o.g, c[0], c[1])
		}
	}
	if err := o.s.Err(); err != nil {
		t.Fatal(err)
	}
}

func (o *run) weights(t *testing.T) []float32 {
	t.Helper()
	w := make([]float32, o.w.Cols)
	if err := o.s.Download(w, o.w); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestRules holds ten steps against the formulas in float64.
func TestRules(t *testing.T) {
	for _, r := range rules {
		if r.step == nil {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			o := newRun(t, r.Rule, params, elems)
			ref := make([]element, elems)
			for step := 1; step <= 10; step++ {
				o.steps(t, step, 1)
				for i, g := range o.grad {
					wd := 0.1
					if i >= 15 && i < 22 {
						wd = 0
					}
					r.step(&ref[i], clip*float64(g), rate, wd, step)
				}
			}
			for i, x := range o.weights(t) {
				if math.Abs(float64(x)-ref[i].w) > 2e-7 {
					t.Errorf("weight %d is %v, want %v", i, x, ref[i].w)
				}
			}
		})
	}
}

// space is an index space with tensors of all kinds, some of them longer than a piece of any kind.
func space(t *testing.T, r optim.Rule) (params []*autograd.Param, l *layout.Layout) {
	t.Helper()
	var ps []layout.Param
	for i, s := range [][2]int{{1, 5}, {600, 512}, {7, 33}, {1, 700}, {530, 1000}, {3, 100}, {900, 1}} {
		p := &autograd.Param{Name: fmt.Sprint("p", i), Unit: i / 4, Rows: s[0], Cols: s[1]}
		if s[0] == 1 {
			p.Kind = autograd.Norm
		}
		params = append(params, p)
		ps = append(ps, layout.Param{Name: p.Name, Unit: p.Unit, Rows: p.Rows, Cols: p.Cols, Grain: r.Grain(p.Rows, p.Cols)})
	}
	l, err := layout.New(ps)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range params {
		p.Off = l.Params[i].Off
	}
	return params, l
}

// TestRanges: owners that step a chunk each get the bits of one who steps everything, and state that was read and
// written to another optimizer goes on with the same bits.
func TestRanges(t *testing.T) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			params, l := space(t, r.Rule)
			whole, parts := newRun(t, r.Rule, params, l.Size), newRun(t, r.Rule, params, l.Size)
			parts.cuts = nil
			for _, c := range l.Chunks {
				parts.cuts = append(parts.cuts, [2]int{c.Lo, c.Hi})
			}
			if len(parts.cuts) < 3 {
				t.Fatalf("only %d chunks", len(parts.cuts))
			}
			whole.steps(t, 1, 3)
			parts.steps(t, 1, 2)
			moved := newRun(t, r.Rule, params, l.Size)
			move(t, parts, moved)
			moved.steps(t, 3, 1)
			same(t, "w", moved.weights(t), whole.weights(t))
			for slot, used := range uses(r.Rule) {
				v := vector(t, moved, optim.Slot(slot))
				same(t, fmt.Sprint("slot ", slot), v, vector(t, whole, optim.Slot(slot)))
				for i, x := range v {
					if !used && x != 0 {
						t.Fatalf("slot %d is not used, but element %d is %v", slot, i, x)
					}
				}
			}
		})
	}
}

func uses(r optim.Rule) []bool {
	m, v := r.Uses()
	return []bool{m, v}
}

// move takes weights, state and the next gradients over.
func move(t *testing.T, from, to *run) {
	t.Helper()
	to.s.Upload(to.w, from.weights(t))
	for _, slot := range []optim.Slot{optim.M, optim.V} {
		to.Write(slot, vector(t, from, slot))
	}
	to.rng = from.rng
}

// vector reads a slot in pieces that fit nothing.
func vector(t *testing.T, o *run, slot optim.Slot) []float32 {
	t.Helper()
	v := make([]float32, o.w.Cols)
	for lo := 0; lo < len(v); lo += 142857 {
		if err := o.Read(slot, lo, v[lo:min(len(v), lo+1000003/7)]); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

func same(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i, w := range want {
		if math.Float32bits(got[i]) != math.Float32bits(w) {
			t.Fatalf("%s: element %d is %v, want %v", what, i, got[i], w)
		}
	}
}

// TestAdafactor holds three steps on a matrix and a vector against the paper's formulas in float64.
func TestAdafactor(t *testing.T) {
	params := []*autograd.Param{{Name: "a", Rows: 4, Cols: 6}, {Name: "b", Rows: 1, Cols: 9, Off: 24}}
	o := newRun(t, optim.Adafactor{Eps: 1e-30, Decay: optim.Decay{WeightDecay: 0.1}}, params, 33)
	w, r, c, v := make([]float64, 33), make([]float64, 4), make([]float64, 6), make([]float64, 9)
	for step := 1; step <= 3; step++ {
		o.steps(t, step, 1)
		beta := 1 - math.Pow(float64(step), -0.8)
		u := make([]float64, 33)
		for i := range 4 {
			r[i] *= beta
			for j := range 6 {
				r[i] += (1 - beta) / 6 * sq(o.grad[6*i+j])
			}
		}
		for j := range 6 {
			c[j] *= beta
			for i := range 4 {
				c[j] += (1 - beta) / 4 * sq(o.grad[6*i+j])
			}
		}
		mean := (r[0] + r[1] + r[2] + r[3]) / 4
		for i := range 24 {
			u[i] = clip * float64(o.grad[i]) / math.Sqrt(r[i/6]*c[i%6]/mean)
		}
		for i := range 9 {
			v[i] = beta*v[i] + (1-beta)*sq(o.grad[24+i])
			u[24+i] = clip * float64(o.grad[24+i]) / math.Sqrt(v[i])
		}
		for _, part := range [][2]int{{0, 24}, {24, 33}} {
			sum := 0.0
			for _, x := range u[part[0]:part[1]] {
				sum += x * x
			}
			scale := rate / max(1, math.Sqrt(sum/float64(part[1]-part[0])))
			for i := part[0]; i < part[1]; i++ {
				w[i] = w[i]*(1-rate*0.1) - scale*u[i]
			}
		}
	}
	for i, x := range o.weights(t) {
		if math.Abs(float64(x)-w[i]) > 1e-7 {
			t.Errorf("weight %d is %v, want %v", i, x, w[i])
		}
	}
}

func sq(g float32) float64 {
	x := clip * float64(g)
	return x*x + 1e-30
}
