// Package cpubench measures what the cpu device reaches on this machine: the peak of its arithmetic, products of the
// sizes that training has, attention, the optimizer and memory. Figures are plain data, for a table or for JSON.
//
// A figure is the best of several runs: other load on a machine makes runs slower, never faster. With one worker it is
// taken in processor time, which leaves out the time that the process was not running; with all workers it is wall
// time. A measurement sets GOMAXPROCS while it runs, so nothing else should go on in the process.
package cpubench

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cpu"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// Figure is one measurement.
type Figure struct {
	Name    string  `json:"name"`    // "gemm 256x288x288 nt f32"
	Workers int     `json:"workers"` // 1: processor time; more: wall time
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`              // "GFLOP/s", "GB/s", "tokens/s"
	OfPeak  float64 `json:"of_peak,omitempty"` // share of the peak measured beside it, at the same number of workers
}

// Report is all figures of a run.
type Report struct {
	Model    string   `json:"model"`     // of the processor
	Kernel   string   `json:"kernel"`    // family in use
	Workers  int      `json:"workers"`   // at most
	MemBytes int64    `json:"mem_bytes"` // of the machine
	Figures  []Figure `json:"figures"`
}

// Shape is a product c (M, N) = (M, K)·(K, N).
type Shape struct{ M, N, K int }

// Shapes are those of the layers and heads of a 15M Llama and of GPT-2 124M, and a cube.
var Shapes = []Shape{{256, 288, 288}, {1024, 768, 288}, {256, 768, 768}, {256, 2304, 768}, {1024, 3072, 768}, {1024, 768, 3072},
	{1024, 2048, 2048}, {1024, 32000, 288}, {512, 32000, 768}, {2048, 2048, 2048}}

// Layout is how a product reads its operands: nt for x·Wᵀ, nn for dy·W, tn for dyᵀ·x.
type Layout struct {
	Name   string
	TA, TB bool
}

// Layouts are the three that training uses.
var Layouts = []Layout{{"nt", false, true}, {"nn", false, false}, {"tn", true, false}}

// Bench measures on one device.
type Bench struct {
	dev   *cpu.Device
	s     *kernels.Stream
	most  map[peakKey]float64 // GFLOP/s of several workers
	Least time.Duration       // of repetitions of one measurement; 0: 100 ms
	Most  int                 // multiply-adds of a product; larger shapes are left out; 0: no limit
	Small bool                // small sizes: what the figures look like, not what they are
}

// New makes a bench on dev.
func New(dev *cpu.Device) *Bench {
	return &Bench{dev: dev, s: kernels.NewStream(dev)}
}

// Part is a group of measurements.
type Part struct {
	Name    string
	Measure func(ctx context.Context, workers int) ([]Figure, error)
}

// Parts lists what a bench measures.
func (b *Bench) Parts() []Part {
	return []Part{{"peak", b.Peaks}, {"gemm", b.GEMMs}, {"bf16", b.HalfGEMMs}, {"attention", b.Attention}, {"optimizer", b.Memory}}
}

// Peaks measures multiply-adds on registers alone, for each type that products are computed in.
func (b *Bench) Peaks(ctx context.Context, workers int) (out []Figure, err error) {
	for _, t := range []dtype.Type{dtype.F32, dtype.BF16} {
		if b.dev.Peak(t, 1) == 0 {
			continue // no instructions for it
		}
		out = append(out, Figure{Name: "peak " + t.String(), Workers: workers, Value: b.peak(t, workers), Unit: "GFLOP/s"})
	}
	return out, ctx.Err()
}

// peak is what multiply-adds of the type reach now: processors change their clock. In wall time it is the most that
// was seen: a disturbed peak would make a figure beside it look better than it is.
func (b *Bench) peak(t dtype.Type, workers int) float64 {
	const rounds = 1 << 15
	flop := 0
	d := b.best(workers, func() { flop = b.dev.Peak(t, rounds) })
	p := float64(flop) / float64(d)
	if workers > 1 {
		if b.most == nil {
			b.most = map[peakKey]float64{}
		}
		p = max(p, b.most[peakKey{t, workers}])
		b.most[peakKey{t, workers}] = p
	}
	return p
}

type peakKey struct {
	t       dtype.Type
	workers int
}

// GEMMs measures all shapes and layouts in F32.
func (b *Bench) GEMMs(ctx context.Context, workers int) ([]Figure, error) {
	return b.GEMMsOf(ctx, dtype.F32, workers)
}

// HalfGEMMs measures them with operands and results in BF16, if there are instructions for it.
func (b *Bench) HalfGEMMs(ctx context.Context, workers int) ([]Figure, error) {
	if b.dev.Peak(dtype.BF16, 1) == 0 {
		return nil, ctx.Err()
	}
	return b.GEMMsOf(ctx, dtype.BF16, workers)
}

// GEMMsOf measures all shapes and layouts with operands and results of type t.
func (b *Bench) GEMMsOf(ctx context.Context, t dtype.Type, workers int) (out []Figure, err error) {
	for _, s := range Shapes {
		if b.Most > 0 && s.M*s.N*s.K > b.Most || b.Small && s != Shapes[0] {
			continue
		}
		for _, l := range Layouts {
			f, err := b.GEMM(ctx, s, l, t, workers)
			if err != nil {
				return out, err
			}
			out = append(out, f)
		}
	}
	return out, nil
}

// GEMM measures one product; its operands and result are of type t.
func (b *Bench) GEMM(ctx context.Context, s Shape, l Layout, t dtype.Type, workers int) (Figure, error) {
	arena := kernels.NewArena(b.dev, 1<<20)
	defer arena.Free()
	x, y, c := b.filled(arena, t, s.M, s.K, l.TA), b.filled(arena, t, s.K, s.N, l.TB), arena.Tensor(t, s.M, s.N)
	d := b.best(workers, func() {
		b.s.MatMul(c, x, y, kernels.MatMul{TA: l.TA, TB: l.TB, Compute: t})
		b.s.Flush()
	})
	f := Figure{Name: fmt.Sprintf("gemm %dx%dx%d %s %v", s.M, s.N, s.K, l.Name, t), Workers: workers,
		Value: 2 * float64(s.M) * float64(s.N) * float64(s.K) / float64(d), Unit: "GFLOP/s"}
	if p := b.peak(t, workers); p > 0 {
		f.OfPeak = f.Value / p
	}
	return f, b.s.Sync(ctx)
}

// filled is a tensor of numbers between -1 and 1, stored transposed if trans is set.
func (b *Bench) filled(a *kernels.Arena, t dtype.Type, rows, cols int, trans bool) kernels.Tensor {
	if trans {
		rows, cols = cols, rows
	}
	v := make([]float32, rows*cols)
	for i := range v {
		v[i] = float32(int32(uint32(i)*2654435769)) * 0x1p-31
	}
	x := a.F32(rows, cols)
	b.s.Upload(x, v)
	if t == dtype.F32 {
		return x
	}
	y := a.Tensor(t, rows, cols)
	b.s.Copy(y, x)
	return y
}

// best runs f for a while and gives the nanoseconds of its fastest run, in processor time for one worker.
func (b *Bench) best(workers int, f func()) time.Duration {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(workers))
	clock := processorTime()
	if workers > 1 {
		clock = wallTime()
	}
	least := b.Least
	if least == 0 {
		least = 100 * time.Millisecond
	}
	f() // brings operands and code into the caches
	best, total := time.Duration(1<<62), time.Duration(0)
	for n := 0; n < 2 || total < least; n++ {
		start := clock()
		f()
		d := clock() - start
		best, total = min(best, d), total+d
	}
	return max(best, 1)
}

// wallTime is a clock that starts now.
func wallTime() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}
