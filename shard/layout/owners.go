package layout

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"slices"
)

// Depth bounds the ranking of a chunk: its owner and the successors that take over one after the other.
const Depth = 16

// Slack is the inverse of how far a member's load may exceed the mean while it still takes chunks by rank: an eighth.
// Less slack evens out more and moves more when members change.
const Slack = 8

// MaxShare is the share of a member that takes as many elements as any other.
const MaxShare = 16

// Owners ranks the members for each chunk: its owner first, then its successors, as indexes into members. Rankings hold
// all members, or Depth of them.
//
// members are names, all different. Their order plays no part: each chunk has the same owner and successors by name
// whatever it is. Loads, in elements, exceed the mean by an eighth or by one chunk, whichever is more.
func Owners(chunks []Chunk, members []string) [][]int { return Shared(chunks, members, nil, Slack) }

// Shared is Owners where members own in proportion to their shares: 1, 2, 4, 8 or MaxShare, one per member; nil: all the
// same. Halving a member's share moves nothing but chunks that it had, as far as loads allow. A load may exceed the
// member's share by one part in slack.
func Shared(chunks []Chunk, members []string, shares []int, slack int) [][]int {
	ranks := make([][]int, len(chunks))
	if len(members) == 0 {
		return ranks
	}
	cs := candidates(members, shares)
	sum, total := 0, 0
	for _, c := range cs {
		sum += c.share
	}
	for i, c := range chunks {
		ranks[i] = rank(c, cs)
		total += c.Len()
	}
	for i := range cs {
		mean := total * cs[i].share / sum
		cs[i].limit = mean + mean/slack
	}
	for _, i := range bySize(chunks) {
		k := choose(ranks[i], cs, chunks[i].Len())
		toFront(ranks[i], k)
		cs[ranks[i][0]].load += chunks[i].Len()
	}
	for i := range ranks {
		ranks[i] = slices.Clip(ranks[i][:min(len(ranks[i]), Depth)])
	}
	return ranks
}

// candidate is a member to whom chunks are handed out.
type candidate struct {
	name        string
	seed        uint64
	share       int
	load, limit int // elements
}

func candidates(members []string, shares []int) []candidate {
	cs := make([]candidate, len(members))
	for m, name := range members {
		cs[m] = candidate{name: name, seed: seed(name), share: MaxShare}
		if len(shares) == len(members) {
			cs[m].share = min(max(shares[m], 1), MaxShare)
		}
	}
	if first := cs[0].share; !slices.ContainsFunc(cs, func(c candidate) bool { return c.share != first }) {
		for m := range cs {
			cs[m].share = MaxShare
		}
	}
	return cs
}

// rank is the order of the members in a chunk if there were no loads (Thaler and Ravishankar 1998, rendezvous hashing):
// the member with the largest u^(1/share) wins, u being its hash with the chunk taken as a number in [0, 1), so that its
// chance is its share (Schindelhauer and Schomaker 2005, the logarithmic method). To the power of MaxShare that needs
// squares alone, and is u itself for a whole share.
func rank(c Chunk, cs []candidate) []int {
	place := mix(uint64(c.Lo))
	order := make([]int, len(cs))
	score, u := make([]uint64, len(cs)), make([]uint64, len(cs))
	for m := range order {
		order[m], u[m] = m, mix(cs[m].seed^place)
		score[m] = u[m]
		for s := cs[m].share; s < MaxShare; s *= 2 {
			score[m], _ = bits.Mul64(score[m], score[m])
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(score[b], score[a]), cmp.Compare(u[b], u[a]), cmp.Compare(cs[a].name, cs[b].name))
	})
	return order
}

// choose returns the place in ranking of the first member that can take n more elements within its limit, or of the one
// that would then have least for its share. The first among equals is the one that ranks first.
func choose(ranking []int, cs []candidate, n int) int {
	least := 0
	for k, m := range ranking {
		c, l := cs[m], cs[ranking[least]]
		if c.load+n <= c.limit {
			return k
		}
		if (c.load+n)*l.share < (l.load+n)*c.share {
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
