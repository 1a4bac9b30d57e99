//go:build unix

package cpu

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7b27c88a/shoal/kernels"
)

// BenchmarkPeak is what one core can do at most: multiply-adds on registers.
func BenchmarkPeak(b *testing.B) {
	for _, f := range families() {
		if f.peak == nil {
			continue
		}
		b.Run(f.name, func(b *testing.B) {
			const rounds = 100000
			cpuTime(b, 2*rounds*f.peakSize, func() { f.peak(rounds) })
		})
	}
}

// shapes (m, n, k) are those of the layers of a 15M Llama and of GPT-2 124M, and a cube.
var shapes = [][3]int{{256, 288, 288}, {1024, 768, 288}, {256, 768, 768}, {256, 2304, 768}, {1024, 3072, 768}, {1024, 768, 3072},
	{1024, 2048, 2048}, {1024, 32000, 288}, {512, 32000, 768}, {2048, 2048, 2048}}

// BenchmarkGEMM runs the product on one worker and on all.
func BenchmarkGEMM(b *testing.B) {
	for _, f := range families() {
		for _, s := range shapes {
			for _, v := range []struct {
				name   string
				ta, tb bool
			}{{"nt", false, true}, {"nn", false, false}, {"tn", true, false}} {
				d := newDevice(f, newMemory())
				x, y := ramp(s[0], s[2]), ramp(s[2], s[1])
				if v.ta {
					x = ramp(s[2], s[0])
				}
				if v.tb {
					y = ramp(s[1], s[2])
				}
				job := product{c: matrix{mat: ramp(s[0], s[1])}, a: plain(x, v.ta), b: plain(y, v.tb)}
				name := fmt.Sprintf("%s/%dx%dx%d/%s", f.name, s[0], s[1], s[2], v.name)
				b.Run(name+"/one", func(b *testing.B) {
					cpuTime(b, 2*s[0]*s[1]*s[2], func() { d.pool.work[0].gemm(job) })
				})
				b.Run(name+"/all", func(b *testing.B) {
					for b.Loop() {
						d.gemm(job)
					}
					gflops(b, 2*s[0]*s[1]*s[2])
				})
				d.pool.close()
			}
		}
	}
}

// BenchmarkVector runs every vector kernel on data in the first-level cache.
func BenchmarkVector(b *testing.B) {
	for _, f := range families() {
		for name, k := range kernelsOf(f) {
			b.Run(f.name+"/"+name, func(b *testing.B) {
				o := newOperands(0)
				for b.Loop() {
					k.run(&o.args)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*o.n), "ns/element")
			})
		}
	}
}

// BenchmarkMicrokernel runs the microkernels over packed panels as a tile does: one panel of a, four of b.
func BenchmarkMicrokernel(b *testing.B) {
	for _, f := range families() {
		for _, m := range append(f.slim, f.gemm) {
			for _, depth := range []int{48, 64, 256, 320} {
				pa, pb, c := ramp(m.mr, depth), ramp(4*m.nr, depth), ramp(m.mr*12, 4*m.nr)
				b.Run(fmt.Sprintf("%s/%dx%d/%d", f.name, m.mr, m.nr, depth), func(b *testing.B) {
					cpuTime(b, 2*m.mr*12*m.nr*4*depth, func() {
						for i := range 12 {
							for j := range 4 {
								m.run(depth, &pa.p[0], &pb.p[j*m.nr*depth], &c.p[i*m.mr*4*m.nr+j*m.nr], 4*m.nr, 1, &pa.p[0], &c.p[0])
							}
						}
					})
				})
			}
		}
	}
}

// ramp is a matrix of numbers between -1 and 1.
func ramp(rows, cols int) mat[float32] {
	m := mat[float32]{make([]float32, rows*cols), rows, cols, cols}
	for i := range m.p {
		m.p[i] = float32(int32(uint32(i)*2654435769)) * 0x1p-31
	}
	return m
}

func gflops(b *testing.B, flop int) {
	b.ReportMetric(float64(flop)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

// cpuTime measures what one thread does per second of processor time, which other load on the machine does not
// change much.
func cpuTime(b *testing.B, flop int, f func()) {
	start := used(b)
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(flop)*float64(b.N)/(used(b)-start).Seconds()/1e9, "GFLOP/cpu-s")
}

func used(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAttention is one head layout of a 15M model, forward and backward.
func BenchmarkAttention(b *testing.B) {
	d, err := Open("")
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	const seqs, t, heads, dim = 4, 256, 6, 48
	s, a := kernels.NewStream(d), kernels.NewArena(d, 1<<20)
	desc := &kernels.Seqs{N: seqs * t, Count: seqs, MaxQ: t, MaxK: t, QStart: a.I32(seqs+1, 1), KStart: a.I32(seqs, 1), KLen: a.I32(seqs, 1)}
	s.UploadI32(desc.QStart, []int32{0, t, 2 * t, 3 * t, 4 * t})
	s.UploadI32(desc.KStart, []int32{0, t, 2 * t, 3 * t})
	s.UploadI32(desc.KLen, []int32{t, t, t, t})
	var x [8]kernels.Tensor
	for i := range x {
		x[i] = a.F32(seqs*t, heads*dim)
		s.Fill(x[i], 0.1)
	}
	lse := a.F32(seqs*t, heads)
	spec := kernels.AttnSpec{Seqs: desc, Heads: heads, KVHeads: heads, HeadDim: dim, Scale: 0.14}
	b.Run("forward", func(b *testing.B) {
		for b.Loop() {
			s.Attention(x[0], lse, x[1], x[2], x[3], spec)
			s.Flush()
		}
		gflops(b, 2*seqs*heads*t*t*dim)
	})
	b.Run("backward", func(b *testing.B) {
		for b.Loop() {
			s.AttentionBack(x[4], x[5], x[6], x[7], x[1], x[2], x[3], x[0], lse, spec, kernels.Set)
			s.Flush()
		}
		gflops(b, 5*seqs*heads*t*t*dim)
	})
	if s.Err() != nil {
		b.Fatal(s.Err())
	}
}
