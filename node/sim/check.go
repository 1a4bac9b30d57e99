package sim

import (
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

// check knows what every round has to give, and keeps the first violation.
type check struct {
	g       *coord.Genesis
	dim     int
	want    [][]float32 // weights after each round, as far as anybody has come
	hashes  []collective.Hash
	commits map[roundOf]cid.Cid
	wrong   error
}

// roundOf names a round of a generation.
type roundOf struct {
	reset cid.Cid
	round uint64
}

func (c *check) init(g *coord.Genesis) {
	c.g, c.dim = g, g.Chunks[len(g.Chunks)-1].Hi
	c.want = [][]float32{make([]float32, c.dim)}
	c.hashes = []collective.Hash{hashOf(c.want[0])}
	c.commits = map[roundOf]cid.Cid{}
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

// after is the weights that every member has after a round.
func (c *check) after(round uint64) ([]float32, collective.Hash) {
	for uint64(len(c.want)) <= round {
		sum, tokens := c.sum([]shard.Range{c.batch(uint64(len(c.want)))})
		for i := range sum {
			sum[i] = float32(float64(sum[i]) / float64(tokens))
		}
		w := step(c.want[len(c.want)-1], sum)
		c.want, c.hashes = append(c.want, w), append(c.hashes, hashOf(w))
	}
	return c.want[round], c.hashes[round]
}

func (c *check) batch(round uint64) shard.Range {
	return shard.Range{Lo: (round - 1) * c.g.Batch, Hi: min(round*c.g.Batch, c.g.Samples)}
}

// committed checks a commit (I1, I2). It is called for every member that applies it.
func (c *check) committed(e *coord.Entry, b *coord.CommitEntry) (first bool) {
	at := roundOf{e.Header.Reset, e.Header.Round}
	if old, known := c.commits[at]; known {
		if old != e.CID {
			c.violated("I1: two commits of round %d in one generation", at.round)
		}
		return false
	}
	c.commits[at] = e.CID
	var rs []shard.Range
	for _, n := range b.Counted {
		rs = append(rs, n.Ranges...)
	}
	slices.SortFunc(rs, func(a, b shard.Range) int { return int(a.Lo) - int(b.Lo) })
	batch := c.batch(at.round)
	next := batch.Lo
	for _, r := range rs {
		if r.Lo != next {
			break
		}
		next = r.Hi
	}
	if next != batch.Hi || len(rs) > 0 && rs[len(rs)-1].Hi != batch.Hi {
		c.violated("I2: round %d does not count its batch once", at.round)
	}
	return true
}

// reached checks a member's new weights: they are those of every whole batch so far (I3), bit by bit.
func (c *check) reached(n *node, round uint64, w []float32) (collective.Hash, []float32) {
	want, h := c.after(round)
	if !slices.Equal(w, want) {
		c.violated("I3: %s has other weights after round %d than its batches give", n.id, round)
		return hashOf(w), w
	}
	return h, want // shared from here on
}

func hashOf(w []float32) collective.Hash {
	b := make([]byte, 0, 4*len(w))
	for _, x := range w {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return sha256.Sum256(b)
}
