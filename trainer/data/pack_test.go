package data

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// rowsOf writes a row of token ids for each length; the first id tells the rows apart.
func rowsOf(lengths ...int) string {
	var b strings.Builder
	for i, n := range lengths {
		ids := slices.Repeat([]int{7}, n)
		ids[0] = 100 + i
		fmt.Fprintf(&b, "{\"input_ids\": %s}\n", strings.ReplaceAll(fmt.Sprint(ids), " ", ","))
	}
	return b.String()
}

func TestPack(t *testing.T) {
	b, mem := build(t, Options{SequenceLen: 8, Pack: true}, nil, text("a", "", rowsOf(3, 5, 6, 9, 2, 1)))
	var got []string
	for _, e := range readAll(t, mem, b.Train) {
		got = append(got, fmt.Sprint(e.IDs, e.Cuts, e.Targets()))
	}
	want := []string{
		"[100 7 7 101 7 7 7 7] [3] 6", "[102 7 7 7 7 7 104 7] [6] 6", "[103 7 7 7 7 7 7 7] [] 7", "[105] [] 0",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	s := b.Stats
	if s.Rows != 4 || s.Packed != 6 || s.Tokens != 25 || s.Targets != 19 || s.Truncated != 1 {
		t.Errorf("%+v", s)
	}
	r, err := Open(t.Context(), mem, b.Train)
	if err != nil || r.Parts() != 6 {
		t.Error(r.Parts(), err)
	}
	if b.Train.Meta["packed"] = "5"; true {
		if _, err := Open(t.Context(), mem, b.Train); err == nil {
			t.Error("another number of rows in Meta is accepted")
		}
	}
}

// TestPackEachRowOnce packs many rows of random lengths, held-out ones apart: the same rows come out, the same way twice,
// and positions are full.
func TestPackEachRowOnce(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	lengths := make([]int, 3000)
	for i := range lengths {
		lengths[i] = 1 + rnd.IntN(60)
	}
	o := Options{SequenceLen: 128, Pack: true, ValSetSize: 10, Seed: 1}
	b, mem := build(t, o, nil, text("a", "", rowsOf(lengths...)))
	var seen []int32
	for _, e := range append(readAll(t, mem, b.Train), readAll(t, mem, b.Val)...) {
		at := 0
		for _, hi := range append(e.Cuts, len(e.IDs)) {
			row := e.IDs[at]
			if n := hi - at; n != lengths[row-100] {
				t.Fatalf("row %d has %d tokens, not %d", row, n, lengths[row-100])
			}
			seen, at = append(seen, row), hi
		}
	}
	slices.Sort(seen)
	if len(seen) != len(lengths) || len(slices.Compact(seen)) != len(lengths) {
		t.Errorf("%d rows came out of %d", len(seen), len(lengths))
	}
	trained := b.Stats.Tokens - b.Stats.HeldTokens
	if full := float64(trained) / float64(128*b.Stats.Rows); b.Stats.Held != 10 || full < 0.99 {
		t.Errorf("%+v: %.3f full", b.Stats, full)
	}
	again, _ := build(t, o, nil, text("a", "", rowsOf(lengths...)))
	if d := cmp.Diff(b.Train, again.Train, cmp.Comparer(cid.Cid.Equals)); d != "" {
		t.Error("the same rows give another manifest:", d)
	}
}

func TestPackedOpenRefuses(t *testing.T) {
	eight := []byte{1, 0, 0, 0x80, 2, 0, 0, 0x80}
	m := func() map[string]string {
		m := meta("1", "2", "0", "2")
		m["format"], m["packed"] = formatPacked, "2"
		return m
	}
	for name, index := range map[string][]byte{
		"fits":           {4, 0, 2, 1},
		"no rows":        {4, 0, 0},
		"too many rows":  {4, 0, 3, 1, 1},
		"empty row":      {4, 0, 2, 0},
		"last row empty": {4, 0, 2, 2},
		"half an entry":  {4, 0, 2},
		"endless number": {4, 0, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		mem := shard.NewMem()
		_, err := Open(t.Context(), mem, put(t.Context(), mem, index, eight, m()))
		if (err == nil) != (name == "fits") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkFirstFit(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	lengths := make([]int, 100_000)
	for i := range lengths {
		lengths[i] = 1 + rnd.IntN(400)
	}
	for b.Loop() {
		firstFit(lengths, 2048)
	}
}
