package kerneltest

import (
	"context"
	"math"
	"slices"
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

// testBadRows: numbers that come from data and name no row are an error that sticks, and nothing is written. The
// device's error state is its own, so this test comes last.
func testBadRows(b *bench) {
	table, dst := b.put(b.rand(3, 4), 0), b.put(zeros(1, 4), 0)
	ids := b.ints(1, 3)
	b.s.GatherRows(dst, table, ids)
	if err := b.s.Sync(context.Background()); err == nil {
		b.Error("an id outside the table was taken")
	}
	b.s.Fill(dst, 1)
	if b.s.Err() == nil {
		b.Error("the error did not stick")
	}
}
