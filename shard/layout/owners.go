package layout

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Depth bounds the ranking of a chunk: its owner and the successors that take over one after the other.
const Depth = 16

// slack is the inverse of how far a member's load may exceed the mean while it still takes chunks by rank: an eighth.
// Less slack evens out more and moves more when members change.
const slack = 8

// Owners ranks the members for each chunk: its owner first, then its successors, as indexes into members. Rankings hold
// all members, or Depth of them.
//
// members are names, all different. Their order plays no part: each chunk has the same owner and successors by name
// whatever it is. Loads, in elements, exceed the mean by an eighth or by one chunk, whichever is more.
func Owners(chunks []Chunk, members []string) [][]int {
	ranks := make([][]int, len(chunks))
	if len(members) == 0 {
		return ranks
	}
	seeds := make([]uint64, len(members))
	for m, name := range members {
		seeds[m] = seed(name)
	}
	total := 0
	for i, c := range chunks {
		ranks[i] = rank(c, members, seeds)
		total += c.Len()
	}
	mean := total / len(members)
	load := make([]int, len(members))
	for _, i := range bySize(chunks) {
		k := choose(ranks[i], load, chunks[i].Len(), mean+mean/slack)
		toFront(ranks[i], k)
		load[ranks[i][0]] += chunks[i].Len()
	}
	for i := range ranks {
		ranks[i] = slices.Clip(ranks[i][:min(len(ranks[i]), Depth)])
	}
	return ranks
}

// rank is the order of the members in a chunk if there were no loads (Thaler and Ravishankar 1998, rendezvous hashing).
func rank(c Chunk, members []string, seeds []uint64) []int {
	place := mix(uint64(c.Lo))
	order := make([]int, len(members))
	score := make([]uint64, len(members))
	for m := range order {
		order[m], score[m] = m, mix(seeds[m]^place)
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(score[b], score[a]), cmp.Compare(members[a], members[b]))
	})
	return order
}

// choose returns the place in ranking of the first member that can take n more elements within limit, or of the one
// with the least load. The first among equals is the one that ranks first.
func choose(ranking, load []int, n, limit int) int {
	least := 0
	for k, m := range ranking {
		if load[m]+n <= limit {
			return k
		}
		if load[m] < load[ranking[least]] {
			least = k
		}
	}
	return least
}

// toFront moves ranking[k] to the front; those before it move back by one.
func toFront(ranking []int, k int) {
	m := ranking[k]
	copy(ranking[1:k+1], ranking[:k])
	ranking[0] = m
}

// bySize is the order in which chunks are handed out: large ones first, while there is room; equal ones in a
// pseudo-random order, so that those which find their first choice taken lie all over the model.
func bySize(chunks []Chunk) []int {
	order := make([]int, len(chunks))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := chunks[a], chunks[b]
		return cmp.Or(cmp.Compare(y.Len(), x.Len()), cmp.Compare(mix(uint64(x.Lo)), mix(uint64(y.Lo))), cmp.Compare(a, b))
	})
	return order
}

// Move is a chunk that changes hands.
type Move struct {
	Chunk int
	From  int // index into the members before
	To    int // index into the members after
}

// Moves lists the chunks whose owner changes when the members before become the members after, in the order of their
// places. Where one side has no members nothing moves.
func Moves(chunks []Chunk, before, after []string) []Move {
	if len(before) == 0 || len(after) == 0 {
		return nil
	}
	var moves []Move
	old, now := Owners(chunks, before), Owners(chunks, after)
	for i := range chunks {
		if from, to := old[i][0], now[i][0]; before[from] != after[to] {
			moves = append(moves, Move{i, from, to})
		}
	}
	return moves
}

// seed turns a name into 64 bits.
func seed(name string) uint64 {
	h := sha256.Sum256([]byte("shoal/owner\x00" + name))
	return binary.LittleEndian.Uint64(h[:])
}

// mix spreads 64 bits (the output function of splitmix64, Steele, Lea and Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
