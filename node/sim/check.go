package sim

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/shard"
)

// check knows what every commit has to give, and keeps the first violation. A commit is looked at once, whoever applies it
// first; what it gives follows from that of the commit before.
type check struct {
	g      *coord.Genesis
	dim    int
	first  map[roundOf]cid.Cid // commit of a round of a generation
	known  map[cid.Cid]*point  // by commit; Undef: the beginning
	latest uint64
	wrong  error
}

// roundOf names a round of a generation.
type roundOf struct {
	reset cid.Cid
	round uint64
}

// point is how the job stands after a commit.
type point struct {
	round uint64
	w     []float32 // weights
	hash  collective.Hash
	next  uint64        // the data cursor: positions from here on, and the open ones, have not counted
	open  []shard.Range // sorted, apart
}

// keptPoints is how many rounds back a member may be that still changes its state.
const keptPoints = 64

func (c *check) init(g *coord.Genesis) {
	c.g, c.dim = g, g.Chunks[len(g.Chunks)-1].Hi
	w := make([]float32, c.dim)
	c.known = map[cid.Cid]*point{cid.Undef: {w: w, hash: hashOf(w)}}
	c.first = map[roundOf]cid.Cid{}
}

func (c *check) violated(format string, args ...any) {
	if c.wrong == nil {
		c.wrong = fmt.Errorf(format, args...)
	}
}

// sum is the gradient over positions, and their target tokens.
func (c *check) sum(rs []shard.Range) (v []float32, tokens int64) {
	v = make([]float32, c.dim)
	for _, r := range rs {
		for p := r.Lo; p < r.Hi; p++ {
			tokens += int64(1 + p%3)
			for i := range v {
				v[i] += float32((p*31+uint64(i)*17+p*p)%23) - 11
			}
		}
	}
	return v, tokens
}

// step is the weights after w and a reduced gradient.
func step(w, g []float32) []float32 {
	out := slices.Clone(w)
	for i := range out {
		out[i] += g[i]
	}
	return out
}

func (c *check) batch(round uint64) shard.Range {
	return shard.Range{Lo: (round - 1) * c.g.Batch, Hi: min(round*c.g.Batch, c.g.Samples)}
}

// committed checks a commit (I1, I2, I3). It is called for every member that applies it.
func (c *check) committed(e *coord.Entry, b *coord.CommitEntry) {
	at := roundOf{e.Header.Reset, e.Header.Round}
	if old, known := c.first[at]; known {
		if old != e.CID {
			c.violated("I1: two commits of round %d in one generation", at.round)
		}
		return
	}
	c.first[at] = e.CID
	before := c.known[b.Prev]
	if before == nil || before.round+1 != at.round {
		c.violated("I2: round %d follows a commit that nobody made", at.round)
		return
	}
	c.known[e.CID] = c.after(before, b)
	c.forget(at.round)
}

// after is where a commit leads: its positions were free before, each counts once (I2, I3), and in allreduce they are the
// round's batch.
func (c *check) after(before *point, b *coord.CommitEntry) *point {
	p := &point{round: before.round + 1, next: b.Next, open: b.Open}
	var rs []shard.Range
	for _, n := range b.Counted {
		rs = append(rs, n.Ranges...)
	}
	slices.SortFunc(rs, func(a, b shard.Range) int { return cmp.Compare(a.Lo, b.Lo) })
	if got, want := joined(rs, b.Open), joined(before.open, []shard.Range{{Lo: before.next, Hi: b.Next}}); !slices.Equal(got, want) {
		c.violated("I3: round %d counts and leaves %v of %v", p.round, got, want)
	}
	if c.g.Inner == 0 && !slices.Equal(joined(rs), []shard.Range{c.batch(p.round)}) {
		c.violated("I2: round %d does not count its batch once", p.round)
	}
	sum, tokens := c.sum(rs)
	for i := range sum {
		sum[i] = float32(float64(sum[i]) / float64(tokens))
	}
	p.w = step(before.w, sum)
	p.hash = hashOf(p.w)
	return p
}

// joined is all the ranges in one list, with neighbours joined; nil where two overlap.
func joined(lists ...[]shard.Range) (out []shard.Range) {
	all := slices.Concat(lists...)
	slices.SortFunc(all, func(a, b shard.Range) int { return cmp.Compare(a.Lo, b.Lo) })
	for _, r := range all {
		switch n := len(out); {
		case r.Len() == 0:
		case n > 0 && r.Lo < out[n-1].Hi:
			return nil
		case n > 0 && r.Lo == out[n-1].Hi:
			out[n-1].Hi = r.Hi
		default:
			out = append(out, r)
		}
	}
	return out
}

// forget drops what lies too far back, once per round.
func (c *check) forget(round uint64) {
	if round <= c.latest || round < 2*keptPoints || round%keptPoints != 0 {
		return
	}
	c.latest = round
	for id, p := range c.known { // the order does not show
		if p.round+keptPoints < round && p.round > 0 {
			delete(c.known, id)
		}
	}
}

// reached checks a member's new weights: they have the bits that the commits up to here give.
func (c *check) reached(n *node, commit cid.Cid, w []float32) (collective.Hash, []float32) {
	want := c.known[commit]
	if want == nil || !slices.Equal(w, want.w) {
		c.violated("I3: %s has other weights than the commits up to %v give", n.id, commit)
		return hashOf(w), w
	}
	return want.hash, want.w // shared from here on
}

func hashOf(w []float32) collective.Hash {
	b := make([]byte, 0, 4*len(w))
	for _, x := range w {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return sha256.Sum256(b)
}
