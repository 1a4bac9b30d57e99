package layout

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNew(t *testing.T) {
	l, err := New([]Param{
		{Name: "embed", Unit: 0, Rows: 512, Cols: 64},
		{Name: "norm", Unit: 2, Rows: 1, Cols: 64},
		{Name: "up", Unit: 2, Rows: 2048, Cols: 256},
		{Name: "head", Unit: 3, Rows: 1, Cols: 10},
	})
	if err != nil {
		t.Fatal(err)
	}
	half := (64 + 2048*256 + 2) / 3 // 524352 elements are just above two chunks
	want := &Layout{
		Params: []Placed{
			{Param{"embed", 0, 512, 64, 1}, 0},
			{Param{"norm", 2, 1, 64, 1}, 32768},
			{Param{"up", 2, 2048, 256, 1}, 32832},
			{Param{"head", 3, 1, 10, 1}, 557120},
		},
		Units: []Unit{{0, 32768, 0, 1}, {32768, 32768, 1, 1}, {32768, 557120, 1, 4}, {557120, 557130, 4, 5}},
		Chunks: []Chunk{{0, 32768, 0}, {32768, 32768 + half, 2}, {32768 + half, 32768 + 2*half, 2},
			{32768 + 2*half, 557120, 2}, {557120, 557130, 3}},
		Size: 557130,
	}
	if d := cmp.Diff(want, l); d != "" {
		t.Error(d)
	}
	segs := l.Segments(32767, 557121)
	if d := cmp.Diff([]Segment{{0, 32767, 32768}, {1, 32768, 32832}, {2, 32832, 557120}, {3, 557120, 557121}}, segs); d != "" {
		t.Error(d)
	}
}

func TestNothingToTrain(t *testing.T) {
	l, err := New(nil)
	if err != nil || l.Size != 0 || len(l.Chunks) != 0 || len(Owners(l.Chunks, []string{"a"})) != 0 {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestNewRefuses(t *testing.T) {
	ok := Param{Name: "a", Unit: 1, Rows: 2, Cols: 6}
	for _, tc := range []struct {
		params []Param
		want   string
	}{
		{[]Param{ok, ok}, "twice"},
		{[]Param{ok, {Name: "b", Unit: 0, Rows: 1, Cols: 1}}, "stands behind"},
		{[]Param{{Name: "a", Unit: -1, Rows: 1, Cols: 1}}, "stands behind"},
		{[]Param{{Name: "a", Rows: 0, Cols: 6}}, "0 x 6"},
		{[]Param{{Name: "a", Rows: -2, Cols: -6}}, "-2 x -6"},
		{[]Param{{Name: "a", Rows: 1 << 40, Cols: 1 << 40}}, "elements"},
		{[]Param{{Name: "a", Rows: 1 << 59, Cols: 1}, {Name: "b", Rows: 1, Cols: 1}}, `"b"`},
		{[]Param{{Name: "a", Rows: 2, Cols: 6, Grain: 5}}, "cannot be cut every 5"},
		{[]Param{{Name: "a", Rows: 2, Cols: 6, Grain: -1}}, "cannot be cut every -1"},
	} {
		if _, err := New(tc.params); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want an error with %q", err, tc.want)
		}
	}
}

// TestChunksOfRandomModels checks what every layout promises, on models of all shapes and grains.
func TestChunksOfRandomModels(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var params []Param
		unit, largest := 0, 0
		for i := range 1 + rng.IntN(30) {
			p := Param{Name: fmt.Sprint(i), Unit: unit, Rows: 1 + rng.IntN(1500), Cols: 1 + rng.IntN(700)}
			p.Grain = []int{0, 1, p.Cols, p.Len()}[rng.IntN(4)]
			largest = max(largest, p.Grain)
			params = append(params, p)
			unit += rng.IntN(3)
		}
		l, err := New(params)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		allowed := func(i int) bool {
			for _, p := range l.Params {
				if i >= p.Off && i < p.Off+p.Len() {
					return (i-p.Off)%p.Grain == 0
				}
			}
			return i == l.Size
		}
		next := 0
		for _, c := range l.Chunks {
			if c.Lo != next || !allowed(c.Hi) || c.Len() > max(MaxChunk, largest) || l.Units[c.Unit].Lo > c.Lo || l.Units[c.Unit].Hi < c.Hi {
				t.Fatalf("seed %d: chunk %+v after %d, largest grain %d", seed, c, next, largest)
			}
			next = c.Hi
		}
		if next != l.Size {
			t.Fatalf("seed %d: chunks end at %d of %d", seed, next, l.Size)
		}
		chunk := 0
		for _, u := range l.Units {
			if u.FirstChunk != chunk || u.EndChunk < chunk {
				t.Fatalf("seed %d: unit %+v", seed, u)
			}
			chunk = u.EndChunk
		}
		if chunk != len(l.Chunks) {
			t.Fatalf("seed %d: units name %d chunks of %d", seed, chunk, len(l.Chunks))
		}
	}
}
