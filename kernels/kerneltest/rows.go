package kerneltest

import (
	"context"
	"math"
	"slices"

	"github.com/seed-7b27c88a/shoal/kernels"
)

func testRows(b *bench) {
	for _, s := range [][3]int{{6, 1, 0}, {9, 17, 3}, {5, 130, 0}} {
		vocab, cols, pad := s[0], s[1], s[2]
		ids := []int32{2, 0, int32(vocab - 1), 2, 2, 0, 1}
		table, dy := b.rand(vocab, cols), b.rand(len(ids), cols)
		tt, tids := b.put(table, pad), b.ints(1, ids...)

		got, want := b.put(b.base(len(ids), cols), pad), zeros(len(ids), cols)
		for i, id := range ids {
			copy(want.row(i), table.row(int(id)))
		}
		b.s.GatherRows(got, tt, tids)
		b.close("gather", b.get(got), want, 0)

		order := make([]int32, len(ids))
		for i := range order {
			order[i] = int32(i)
		}
		slices.SortStableFunc(order, func(x, y int32) int { return int(ids[x] - ids[y]) })
		sum := table.clone()
		for i, id := range ids {
			for j := range cols {
				sum.set(int(id), j, sum.at(int(id), j)+dy.at(i, j))
			}
		}
		b.s.ScatterAddRows(tt, b.put(dy, pad), tids, b.ints(1, order...))
		b.close("scatter add", b.get(tt), sum, 1e-6)

		src := b.rand(3, cols)
		moved := sum.clone()
		for i, to := range []int{4, 0, 2} {
			copy(moved.row(to), src.row(i))
		}
		b.s.CopyRows(tt, b.put(src, pad), b.ints(1, 4, 0, 2))
		b.close("copy rows", b.get(tt), moved, 1e-6)
		b.done()
	}
}

func testArgMax(b *bench) {
	x := b.rand(5, 37)
	x.set(0, 36, 99)
	x.set(1, 4, 50)
	x.set(1, 9, 50)
	x.set(2, 0, math.NaN())
	x.set(2, 20, 77)
	x.set(4, 3, math.Inf(1))
	want := []int32{36, 4, 20, 0, 3}
	for j := range 37 {
		if x.at(3, j) > x.at(3, int(want[3])) {
			want[3] = int32(j)
		}
	}
	dst, got := b.arena.I32(5, 1), make([]int32, 5)
	b.s.ArgMax(dst, b.put(x, 2))
	if err := b.s.DownloadI32(got, dst); err != nil || !slices.Equal(got, want) {
		b.Errorf("arg max %v, want %v (%v)", got, want, err)
	}
	b.done()
}

// testBadRows: numbers that come from data and name no row are an error of the stream that sticks, nothing is written,
// and other streams go on.
func testBadRows(b *bench) {
	table, dst := b.put(b.rand(3, 4), 0), b.put(zeros(2, 4), 0)
	good, high, low := b.ints(1, 0, 1), b.ints(1, 1, 3), b.ints(1, -1, 1)
	for name, op := range map[string]func(s *kernels.Stream){
		"gather":  func(s *kernels.Stream) { s.GatherRows(dst, table, high) },
		"copy":    func(s *kernels.Stream) { s.CopyRows(table, dst, low) },
		"scatter": func(s *kernels.Stream) { s.ScatterAddRows(table, dst, high, good) },
		"order":   func(s *kernels.Stream) { s.ScatterAddRows(table, dst, good, high) },
		"target": func(s *kernels.Stream) {
			s.Head(kernels.Head{H: dst, W: table, Target: high, LogP: b.arena.F32(2, 1)})
		},
		"sequence": func(s *kernels.Stream) {
			spec := kernels.AttnSpec{Heads: 1, KVHeads: 1, HeadDim: 4, Scale: 1}
			spec.Seqs = &kernels.Seqs{N: 2, Count: 1, QStart: b.ints(1, 0, 2), KStart: b.ints(1, 2), KLen: b.ints(1, 2)}
			s.Attention(b.arena.F32(2, 4), b.arena.F32(2, 1), dst, table, table, spec)
		},
	} {
		s := kernels.NewStream(b.s.Device())
		op(s)
		if s.Flush(); s.Sync(context.Background()) == nil {
			b.Errorf("%s took a row that does not exist", name)
		}
		s.Fill(dst, 1)
		if err := s.Err(); err == nil {
			b.Errorf("%s: the error did not stick", name)
		}
	}
	b.close("untouched", b.get(dst), zeros(2, 4), 0)
	b.done()
}
