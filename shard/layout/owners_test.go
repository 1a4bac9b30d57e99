package layout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// models are lists of chunks as they occur: an adapter with few small ones, a small and a large model.
func models(t *testing.T) map[string][]Chunk {
	t.Helper()
	build := func(blocks, rows, cols int) []Chunk {
		params := []Param{{Name: "embed", Rows: rows, Cols: cols * 4}}
		for b := range blocks {
			params = append(params, Param{Name: fmt.Sprint("w", b), Unit: b + 1, Rows: rows, Cols: cols}, Param{Name: fmt.Sprint("n", b), Unit: b + 1, Rows: 1, Cols: rows})
		}
		l, err := New(params)
		if err != nil {
			t.Fatal(err)
		}
		return l.Chunks
	}
	return map[string][]Chunk{"adapter": build(5, 64, 16), "small": build(5, 512, 640), "large": build(24, 4096, 1024)}
}

func names(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("12D3KooW%04d", i)
	}
	return list
}

func loads(chunks []Chunk, owners [][]int, members int) []int {
	load := make([]int, members)
	for i, c := range chunks {
		load[owners[i][0]] += c.Len()
	}
	return load
}

func TestOwnersAreBalanced(t *testing.T) {
	for name, chunks := range models(t) {
		total, largest := 0, 0
		for _, c := range chunks {
			total += c.Len()
			largest = max(largest, c.Len())
		}
		for _, n := range []int{1, 2, 3, 4, 7, 16, 40} {
			members := names(n)
			owners := Owners(chunks, members)
			mean := total / n
			if got := slices.Max(loads(chunks, owners, n)); got > mean+max(mean/Slack, largest) {
				t.Errorf("%s, %d members: the largest load is %d, the mean %d, the largest chunk %d", name, n, got, mean, largest)
			}
			for i, r := range owners {
				seen := slices.Clone(r)
				slices.Sort(seen)
				if len(r) != min(n, Depth) || len(slices.Compact(seen)) != len(r) || seen[0] < 0 || seen[len(seen)-1] >= n {
					t.Fatalf("%s, %d members: ranking of chunk %d is %v", name, n, i, r)
				}
			}
		}
	}
}

// TestSmallModelsAreBalanced: with chunks cut for that, who owns most sends at most 1.05 of what each would if all owned
// the same: its part of the sums, a copy for a successor, and its chunks of the result to all others.
func TestSmallModelsAreBalanced(t *testing.T) {
	var ps []Param
	for unit, n := range []int{32768, 45376, 45376, 45376, 45376, 45376, 64} { // a model of seven units, 260 thousand elements
		ps = append(ps, Param{Name: fmt.Sprint(unit), Unit: unit, Rows: 1, Cols: n})
	}
	l, err := NewCut(ps, Most(259712, 64))
	if err != nil {
		t.Fatal(err)
	}
	for n := 2; n <= 8; n++ {
		worst := 0.0
		for k := range 40 {
			members := make([]string, n)
			for i := range members {
				members[i] = fmt.Sprintf("12D3KooW%d-%d", k, i)
			}
			most := slices.Max(loads(l.Chunks, Shared(l.Chunks, members, nil, 2*Slack), n))
			others := float64(n - 1)
			worst = max(worst, (1+others*float64(most)/float64(l.Size))/(1+others/float64(n)))
		}
		t.Logf("%d members, %d chunks: the busiest sends %.3f", n, len(l.Chunks), worst)
		if worst > 1.05 {
			t.Errorf("%d members: the busiest sends %.3f of its part", n, worst)
		}
	}
}

func TestOwnersDoNotDependOnTheOrderOfMembers(t *testing.T) {
	for name, chunks := range models(t) {
		members := names(9)
		want := byName(Owners(chunks, members), members)
		for seed := range uint64(10) {
			shuffled := slices.Clone(members)
			rand.New(rand.NewPCG(seed, 0)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			if d := cmp.Diff(want, byName(Owners(chunks, shuffled), shuffled)); d != "" {
				t.Fatalf("%s: %s", name, d)
			}
		}
	}
}

func byName(owners [][]int, members []string) [][]string {
	list := make([][]string, len(owners))
	for i, r := range owners {
		for _, m := range r {
			list[i] = append(list[i], members[m])
		}
	}
	return list
}

// TestOwnersAreKnown keeps the assignment as it is: nodes of different builds must agree.
func TestOwnersAreKnown(t *testing.T) {
	chunks := []Chunk{{0, 100, 0}, {100, 200, 0}, {200, 300, 1}, {300, 350, 1}, {350, 400, 2}, {400, 1000, 2}}
	got := Owners(chunks, []string{"a", "b", "c", "d"})
	want := [][]int{{1, 2, 3, 0}, {3, 1, 2, 0}, {3, 2, 0, 1}, {0, 1, 3, 2}, {0, 2, 1, 3}, {2, 3, 1, 0}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestLittleMoves lets each member leave and come again. The leaver's chunks must move; an ideal assignment would move
// nothing else, a balanced one moves a little.
func TestLittleMoves(t *testing.T) {
	chunks := models(t)["large"]
	total := 0
	for _, c := range chunks {
		total += c.Len()
	}
	for _, n := range []int{2, 3, 5, 9, 16} {
		members := names(n)
		moved := 0
		for leave := range members {
			rest := slices.Delete(slices.Clone(members), leave, leave+1)
			moves := Moves(chunks, members, rest)
			back := Moves(chunks, rest, members)
			if len(moves) != len(back) {
				t.Errorf("%d members: %d chunks move, %d move back", n, len(moves), len(back))
			}
			for i, m := range moves {
				moved += chunks[m.Chunk].Len()
				if back[i] != (Move{m.Chunk, m.To, m.From}) || members[m.From] == rest[m.To] {
					t.Fatalf("%d members: %+v and back %+v", n, m, back[i])
				}
			}
		}
		if 2*moved > 3*total { // in the mean over the leavers, the ideal is total
			t.Errorf("%d members: %.2f of the ideal moves", n, float64(moved)/float64(total))
		}
		t.Logf("%d members: %.2f of the ideal moves", n, float64(moved)/float64(total))
	}
}

// TestSuccessorsShareTheLoad kills each owner: what it had must not all fall to one other.
func TestSuccessorsShareTheLoad(t *testing.T) {
	chunks := models(t)["large"]
	members := names(8)
	owners := Owners(chunks, members)
	for dead := range members {
		extra := make([]int, len(members))
		lost := 0
		for i, c := range chunks {
			if owners[i][0] == dead {
				extra[owners[i][1]] += c.Len()
				lost += c.Len()
			}
		}
		if got := slices.Max(extra); got > lost/2 {
			t.Errorf("member %d: %d of %d elements fall to one successor", dead, got, lost)
		}
	}
}

func TestNoMembers(t *testing.T) {
	chunks := models(t)["adapter"]
	for _, r := range Owners(chunks, nil) {
		if r != nil {
			t.Fatal("a ranking of nobody")
		}
	}
	if Moves(chunks, nil, names(2)) != nil || Moves(chunks, names(2), nil) != nil {
		t.Error("moves between nobody")
	}
}

func BenchmarkOwners(b *testing.B) {
	l, err := New([]Param{{Name: "w", Rows: 1 << 16, Cols: 1 << 15}}) // 2^31 elements, 8192 chunks
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{3, 16, 256} {
		members := names(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				Owners(l.Chunks, members)
			}
		})
	}
}

// TestShares: a member owns in proportion to its share, and a smaller share moves little but what the member had.
func TestShares(t *testing.T) {
	for name, chunks := range models(t) {
		if name == "adapter" {
			continue // too few chunks for an eighth of anything
		}
		total, largest := 0, 0
		for _, c := range chunks {
			total, largest = total+c.Len(), max(largest, c.Len())
		}
		members, shares := names(5), []int{16, 16, 2, 16, 8}
		owners := Shared(chunks, members, shares, Slack)
		for m, got := range loads(chunks, owners, 5) {
			want := total * shares[m] / 58
			if got > want+max(want/Slack, largest) || name == "large" && got < want/2 {
				t.Errorf("%s: member %d with share %d owns %d of %d, want about %d", name, m, shares[m], got, total, want)
			}
		}
		if d := cmp.Diff(Owners(chunks, members), Shared(chunks, members, []int{4, 4, 4, 4, 4}, Slack)); d != "" {
			t.Errorf("%s: equal shares: %s", name, d)
		}
	}
}

// TestSharesMoveLittle: when a member's share falls to an eighth, what it gives up moves, and little else.
func TestSharesMoveLittle(t *testing.T) {
	chunks, members := models(t)["large"], names(5)
	before, after := Owners(chunks, members), Shared(chunks, members, []int{16, 16, 2, 16, 16}, Slack)
	moved, total := 0, 0
	for i, c := range chunks {
		total += c.Len()
		if before[i][0] != after[i][0] {
			moved += c.Len()
		}
	}
	least := total/5 - total*2/66
	t.Logf("moved %.1f %% of all, of which it had to give up %.1f %%", 100*float64(moved)/float64(total), 100*float64(least)/float64(total))
	if moved > least+total/10 {
		t.Errorf("moved %d of %d elements, the member gives up %d", moved, total, least)
	}
}
