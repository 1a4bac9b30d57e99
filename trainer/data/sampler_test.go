package data

import (
	"slices"
	"testing"
)

func TestSamplerOrder(t *testing.T) {
	m := &Sampler{Rows: 10}
	for s := range uint64(25) {
		if got := m.Row(s); got != s%10 {
			t.Errorf("sample %d: row %d", s, got)
		}
	}
}

// TestSamplerGolden pins the permutation: it is part of the protocol, every node derives it alone.
func TestSamplerGolden(t *testing.T) {
	for _, tc := range []struct {
		seed, epoch uint64
		want        []uint64
	}{
		{0, 0, golden00},
		{42, 1, golden421},
	} {
		m := &Sampler{Rows: 10, Seed: tc.seed, Shuffle: true}
		var got []uint64
		for i := range uint64(10) {
			got = append(got, m.Row(tc.epoch*10+i))
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("seed %d, epoch %d: %v, want %v", tc.seed, tc.epoch, got, tc.want)
		}
	}
}

func TestSamplerCoversEachEpochOnce(t *testing.T) {
	for _, rows := range []uint64{1, 2, 3, 1000} {
		m := &Sampler{Rows: rows, Seed: 7, Shuffle: true}
		for epoch := range uint64(4) {
			seen := make([]bool, rows)
			for i := range rows {
				r := m.Row(epoch*rows + i)
				if r >= rows || seen[r] {
					t.Fatalf("rows %d, epoch %d: row %d twice or out of range", rows, epoch, r)
				}
				seen[r] = true
			}
		}
	}
}

func TestSamplerRandomAccess(t *testing.T) {
	a, b := &Sampler{Rows: 50, Seed: 1, Shuffle: true}, &Sampler{Rows: 50, Seed: 1, Shuffle: true}
	var forward, backward []uint64
	for s := range uint64(250) {
		forward = append(forward, a.Row(s))
	}
	for s := range uint64(250) {
		backward = append(backward, b.Row(249-s))
	}
	slices.Reverse(backward)
	if !slices.Equal(forward, backward) {
		t.Error("the order of access changes the rows")
	}
	if slices.Equal(forward[:50], forward[50:100]) {
		t.Error("two epochs have the same order")
	}
}

// TestShuffleIsFair counts where row 0 ends up: a permutation drawn evenly puts it everywhere equally often.
func TestShuffleIsFair(t *testing.T) {
	const rows, epochs = 8, 4000
	var at [rows]int
	for e := range uint64(epochs) {
		at[slices.Index(permutation(rows, 3, e), 0)]++
	}
	for i, n := range at {
		if n < epochs/rows*8/10 || n > epochs/rows*12/10 { // 4.5 standard deviations
			t.Errorf("row 0 stands at %d in %d of %d epochs", i, n, epochs)
		}
	}
}

// Computed with an independent implementation (Python) of the definition in Sampler's comment.
var golden00 = []uint64{4, 9, 2, 5, 1, 7, 6, 0, 3, 8}
var golden421 = []uint64{6, 5, 1, 4, 7, 3, 2, 9, 8, 0}
