package kerneltest

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

const normEps = 1e-5

func rmsNorm(x, w mat, offset float64) mat {
	y := zeros(x.rows, x.cols)
	for i := range x.rows {
		s := 0.0
		for _, v := range x.row(i) {
			s += v * v
		}
		r := 1 / math.Sqrt(s/float64(x.cols)+normEps)
		for j, v := range x.row(i) {
			y.set(i, j, v*r*(offset+w.v[j]))
		}
	}
	return y
}

func layerNorm(x, w, bias mat) mat {
	y := zeros(x.rows, x.cols)
	for i := range x.rows {
		mean, vr := 0.0, 0.0
		for _, v := range x.row(i) {
			mean += v / float64(x.cols)
		}
		for _, v := range x.row(i) {
			vr += (v - mean) * (v - mean) / float64(x.cols)
		}
		for j, v := range x.row(i) {
			y.set(i, j, (v-mean)/math.Sqrt(vr+normEps)*w.v[j]+bias.v[j])
		}
	}
	return y
}

// normShapes are small: finite differences cost a forward per element.
var normShapes = [][3]int{{1, 3, 0}, {3, 16, 0}, {2, 21, 3}, {4, 64, 8}, {2, 70, 0}}

func testRMSNorm(b *bench) {
	for _, s := range normShapes {
		for k, mode := range modes {
			rows, cols, pad, offset := s[0], s[1], s[2], float64(k)
			x, w, dy := b.rand(rows, cols), b.rand(1, cols), b.rand(rows, cols)
			tx, tw, tdy := b.put(x, pad), b.put(w, pad), b.put(dy, pad)
			y, rstd := b.put(b.base(rows, cols), pad), b.arena.F32(rows, 1)
			b.s.RMSNorm(y, rstd, tx, tw, normEps, float32(offset))
			b.close("rmsnorm", b.get(y), rmsNorm(x, w, offset), 1e-6)

			loss := func() float64 { return inner(dy, rmsNorm(x, w, offset)) }
			px, pw := b.base(rows, cols), b.base(1, cols)
			dx, dw := b.put(px, pad), b.put(pw, pad)
			b.s.RMSNormBack(dx, dw, tdy, tx, tw, rstd, float32(offset), mode)
			b.close("rmsnorm dx", b.get(dx), expect(mode, px, slope(x, loss)), 3e-6)
			b.close("rmsnorm dw", b.get(dw), pw.plus(1, slope(w, loss)), 3e-6)
			b.s.RMSNormBack(dx, kernels.Tensor{}, tdy, tx, tw, rstd, float32(offset), kernels.Set)
			b.close("rmsnorm dx alone", b.get(dx), slope(x, loss), 3e-6)
			b.done()
		}
	}
}

func testLayerNorm(b *bench) {
	for _, s := range normShapes {
		for _, mode := range modes {
			rows, cols, pad := s[0], s[1], s[2]
			x, w, bias, dy := b.rand(rows, cols), b.rand(1, cols), b.rand(1, cols), b.rand(rows, cols)
			for i := range x.v {
				x.v[i] = float64(float32(x.v[i] + 3)) // a mean that matters
			}
			tx, tw, tb, tdy := b.put(x, pad), b.put(w, pad), b.put(bias, pad), b.put(dy, pad)
			y, stat := b.put(b.base(rows, cols), pad), b.arena.F32(rows, 2)
			b.s.LayerNorm(y, stat, tx, tw, kernels.Tensor{}, normEps)
			b.close("layernorm without bias", b.get(y), layerNorm(x, w, zeros(1, cols)), 3e-6)
			b.s.LayerNorm(y, stat, tx, tw, tb, normEps)
			b.close("layernorm", b.get(y), layerNorm(x, w, bias), 3e-6)

			loss := func() float64 { return inner(dy, layerNorm(x, w, bias)) }
			px, pw, pb := b.base(rows, cols), b.base(1, cols), b.base(1, cols)
			dx, dw, db := b.put(px, pad), b.put(pw, pad), b.put(pb, pad)
			b.s.LayerNormBack(dx, dw, db, tdy, tx, tw, stat, mode)
			b.close("layernorm dx", b.get(dx), expect(mode, px, slope(x, loss)), 1e-5)
			b.close("layernorm dw", b.get(dw), pw.plus(1, slope(w, loss)), 1e-5)
			b.close("layernorm db", b.get(db), pb.plus(1, slope(bias, loss)), 1e-5)
			b.s.LayerNormBack(dx, kernels.Tensor{}, kernels.Tensor{}, tdy, tx, tw, stat, kernels.Set)
			b.close("layernorm dx alone", b.get(dx), slope(x, loss), 1e-5)
			b.done()
		}
	}
}

// testAddNorm: the sum and the norm of it in one operation have the bits of the two, also where the sum takes the place of
// a term, and whatever is bfloat16.
func testAddNorm(b *bench) {
	for _, s := range normShapes {
		for kinds := range 16 { // bit by bit: which of the tensors are bfloat16
			rows, cols, pad := s[0], s[1], s[2]
			typ := func(i int) dtype.Type { return []dtype.Type{dtype.F32, dtype.BF16}[kinds>>i&1] }
			x, y, prev := b.rand(rows, cols), b.rand(rows, cols), b.base(rows, cols)
			tw, tb := b.put(b.rand(1, cols), 0), b.put(b.rand(1, cols), 0)
			ta, tc := b.putAs(typ(0), x, pad), b.putAs(typ(1), y, pad)
			for _, bias := range []kernels.Tensor{{}, tb} {
				var sums, ys, stats [2]kernels.Tensor
				for i := range sums {
					sums[i], ys[i], stats[i] = b.putAs(typ(2), prev, pad), b.putAs(typ(3), prev, pad), b.arena.F32(rows, 2)
				}
				b.s.Add(sums[0], ta, tc)
				b.s.LayerNorm(ys[0], stats[0], sums[0], tw, bias, normEps)
				b.s.AddLayerNorm(sums[1], ys[1], stats[1], ta, tc, tw, bias, normEps)
				b.sameTensors("add and layernorm", sums, ys, stats)
				b.s.RMSNorm(ys[0], stats[0].SliceCols(0, 1), sums[0], tw, normEps, 1)
				b.s.AddRMSNorm(sums[1], ys[1], stats[1].SliceCols(0, 1), ta, tc, tw, normEps, 1)
				b.sameTensors("add and rmsnorm", sums, ys, stats)
			}
			in, norm, stat := b.putAs(typ(0), x, pad), b.putAs(typ(3), prev, pad), b.arena.F32(rows, 1)
			sum, alone := b.putAs(typ(0), prev, pad), b.putAs(typ(3), prev, pad)
			b.s.AddRMSNorm(sum, alone, stat, in, tc, tw, normEps, 0)
			b.s.AddRMSNorm(in, norm, stat, in, tc, tw, normEps, 0)
			b.sameTensors("in place", [2]kernels.Tensor{sum, in}, [2]kernels.Tensor{alone, norm})
			b.done()
		}
	}
}

// sameTensors compares pairs of F32 or BF16 tensors, bit by bit.
func (b *bench) sameTensors(what string, pairs ...[2]kernels.Tensor) {
	b.Helper()
	for i, p := range pairs {
		var v [2]mat
		for k, t := range p {
			wide := b.arena.F32(t.Rows, t.Cols)
			b.s.Copy(wide, t)
			v[k] = b.get(wide)
		}
		b.same(label(what, ", output ", i), v[1], narrow(v[0].v))
	}
}

// testRope: the rotation against complex numbers, and its gradient as the inverse rotation.
func testRope(b *bench) {
	for _, d := range [][3]int{{1, 2, 0}, {3, 8, 5}, {2, 64, 0}, {1, 4, 0}, {2, 6, 1}, {1, 10, 0}} {
		for _, mode := range modes {
			heads, dim, pad := d[0], d[1], d[2]
			pos := []int32{0, 1, 5, 2047, 100000}
			x, prev, freq := b.rand(len(pos), heads*dim), b.base(len(pos), heads*dim), zeros(1, dim/2)
			for k := range freq.v {
				freq.v[k] = float64(float32(math.Pow(10000, -2*float64(k)/float64(dim))))
			}
			tx, tp, tf := b.put(x, pad), b.ints(1, pos...), b.put(freq, 0)
			y, back := b.put(prev, pad), b.put(zeros(len(pos), heads*dim), pad)
			o := kernels.Rope{HeadDim: dim, Scale: 1.5, Mode: mode}
			b.s.Rope(y, tx, tp, tf, heads, o)
			b.close("rope", b.get(y), expect(mode, prev, ropeRef(x, pos, freq, heads, 1.5)), 1e-6)

			b.s.Rope(back, tx, tp, tf, heads, kernels.Rope{HeadDim: dim, Scale: 1})
			b.s.Rope(back, back, tp, tf, heads, kernels.Rope{HeadDim: dim, Scale: 1, Inverse: true})
			b.close("rope and back", b.get(back), x, 1e-6)
			b.done()
		}
	}
}

func ropeRef(x mat, pos []int32, freq mat, heads int, scale float64) mat {
	y, half := zeros(x.rows, x.cols), freq.cols
	for i := range x.rows {
		for h := range heads {
			for k, f := range freq.v {
				s, c := math.Sincos(float64(pos[i]) * f)
				a, b := x.at(i, h*2*half+k), x.at(i, h*2*half+half+k)
				y.set(i, h*2*half+k, scale*(a*c-b*s))
				y.set(i, h*2*half+half+k, scale*(b*c+a*s))
			}
		}
	}
	return y
}
