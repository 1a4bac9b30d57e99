package model

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// Shard is one of Of cuts through every unit (Shoeybi et al. 2019, arXiv:1909.08053, section 3): layers that widen give each
// its share of the outputs, layers that narrow again take its share of the inputs, and the sum over all shards is the result. A
// shard has its share of the heads, of the feed-forward width and of the vocabulary; where there are fewer heads of keys and values
// than shards, several hold the same one. The zero Shard is the whole.
type Shard struct{ Rank, Of int }

func (s Shard) whole() bool { return s.Of <= 1 }

// Group is the shards of a model while they run: each calls the same, in the same order, with vectors of the same length.
// Results are equal to the bit on all of them.
type Group interface {
	Sum(ctx context.Context, v []float32) error // adds up in the order of ranks
	Max(ctx context.Context, v []float32) error
}

// OpenShard opens a shard of a model. The pass of a shard needs its Ctx.Group.
func OpenShard(files Files, sh Shard) (*Model, error) {
	cfg, err := ReadConfig(files)
	if err != nil {
		return nil, err
	}
	if err := sh.check(cfg); err != nil {
		return nil, err
	}
	set, err := safetensors.OpenSet(files)
	if err != nil {
		return nil, err
	}
	m, err := buildShard(cfg, set, Surgery{}, sh)
	if err != nil {
		return nil, errors.Join(err, set.Close())
	}
	return m, nil
}

func (s Shard) check(c *Config) error {
	switch n := s.Of; {
	case n < 1 || s.Rank < 0 || s.Rank >= n:
		return fmt.Errorf("tensor: shard %d of %d", s.Rank, n)
	case c.Heads%n != 0:
		return fmt.Errorf("tensor: %d heads cannot be shared by %d; choose a divisor of %d", c.Heads, n, c.Heads)
	case c.Inner < n || c.Vocab < n:
		return fmt.Errorf("tensor: a feed-forward width of %d cannot be shared by %d", c.Inner, n)
	case c.KVHeads%n != 0 && n%c.KVHeads != 0:
		return fmt.Errorf("tensor: %d heads of keys and values cannot be shared by %d", c.KVHeads, n)
	}
	return nil
}

// local is the config of the shard alone.
func (s Shard) local(c *Config) *Config {
	if s.whole() {
		return c
	}
	l := *c
	l.Heads /= s.Of
	l.KVHeads = max(1, c.KVHeads/s.Of)
	l.Inner = s.of(c.Inner).len()
	l.Vocab = s.of(c.Vocab).len()
	return &l
}

// run is [lo, hi) of something.
type run struct{ lo, hi int }

func (r run) len() int { return r.hi - r.lo }

// of is the shard's part of n things.
func (s Shard) of(n int) run { return run{s.Rank * n / s.Of, (s.Rank + 1) * n / s.Of} }

// times is the run of n for each.
func (r run) times(n int) run { return run{r.lo * n, r.hi * n} }

// queries, keys and inner are the shard's parts of what they name, from at on.
func (s Shard) queries(c *Config, at int) run { return s.of(c.Heads).times(c.HeadDim).from(at) }

func (s Shard) keys(c *Config, at int) run {
	r := s.of(c.KVHeads)
	if r.len() == 0 || c.KVHeads < s.Of {
		head := s.Rank * c.KVHeads / s.Of
		r = run{head, head + 1}
	}
	return r.times(c.HeadDim).from(at)
}

func (s Shard) inner(c *Config, at int) run { return s.of(c.Inner).from(at) }

func (r run) from(at int) run { return run{r.lo + at, r.hi + at} }

// slice says which rows or columns of a weight a shard holds.
type slice struct {
	rows, cols int  // of the whole
	byCols     bool // columns are cut, else rows
	runs       []run
}

// each calls f for every element of the shard, in its order, with its place in the whole, in runs of n elements.
func (c *slice) each(f func(at, whole, n int)) {
	at := 0
	put := func(whole, n int) {
		f(at, whole, n)
		at += n
	}
	if !c.byCols {
		for _, r := range c.runs {
			put(r.lo*c.cols, r.len()*c.cols)
		}
		return
	}
	for row := range c.rows {
		for _, r := range c.runs {
			put(row*c.cols+r.lo, r.len())
		}
	}
}

// width is how many rows or columns the shard has.
func (c *slice) width() (n int) {
	for _, r := range c.runs {
		n += r.len()
	}
	return n
}

// Place tells where elements of p lie in the whole weight, in runs of n; false: the shard holds all of p.
func (m *Model) Place(p *autograd.Param, f func(at, whole, n int)) bool {
	c := m.slices[p]
	if c == nil {
		return false
	}
	c.each(f)
	return true
}

// Whole is how many elements the whole weight has.
func (m *Model) Whole(p *autograd.Param) int {
	if c := m.slices[p]; c != nil {
		return c.rows * c.cols
	}
	return p.Len()
}

// readSlice fills dst with the shard's part of a weight, and gives it to put in pieces of whole rows.
func (m *Model) readSlice(p *autograd.Param, c *slice, put func(lo int, v []float32) error) error {
	if !c.byCols {
		at := 0
		for _, r := range c.runs {
			v := make([]float32, r.len()*c.cols)
			if err := m.set.ReadPartF32(m.stored[p], r.lo*c.cols, v); err != nil {
				return err
			}
			if err := put(at, v); err != nil {
				return err
			}
			at += len(v)
		}
		return nil
	}
	rows := max(1, pieceLen/c.cols)
	whole, part := make([]float32, rows*c.cols), make([]float32, 0, rows*c.width())
	for lo := 0; lo < c.rows; lo += rows {
		n := min(rows, c.rows-lo)
		if err := m.set.ReadPartF32(m.stored[p], lo*c.cols, whole[:n*c.cols]); err != nil {
			return err
		}
		part = part[:0]
		for row := range n {
			for _, r := range c.runs {
				part = append(part, whole[row*c.cols+r.lo:row*c.cols+r.hi]...)
			}
		}
		if err := put(lo*c.width(), part); err != nil {
			return err
		}
	}
	return nil
}

// Addends reports whether every shard holds an addend of p's gradient, so that the whole gradient is their sum, taken
// where each element lies. Of other weights that all shards hold, each has the whole gradient.
func (m *Model) Addends(p *autograd.Param) bool { return m.addends[p] }

// Sharded says which shard the model is.
func (m *Model) Sharded() Shard { return m.shard }

// outputs says that of the linear layer that is named next, of whole outputs, the shard has some.
func (b *builder) outputs(whole int, runs ...run) *builder { return b.by(false, whole, runs) }

// inputs says the same of its inputs.
func (b *builder) inputs(whole int, runs ...run) *builder { return b.by(true, whole, runs) }

func (b *builder) by(in bool, whole int, runs []run) *builder {
	if !b.m.shard.whole() {
		b.cut, b.cutIn, b.whole = runs, in, whole
	}
	return b
}

// headNorm is a norm of each head, of which a shard has some: its gradient is the sum of theirs.
func (b *builder) headNorm(name string, n int) *autograd.Param {
	p := b.norm(name, n)
	b.m.addends[p] = !b.m.shard.whole()
	return p
}

// sum makes x, of which each shard has an addend, their sum on all of them; its gradient is that of each.
func (c *Ctx) sum(x autograd.Var) autograd.Var {
	return c.Host(autograd.HostFunc{
		Forward: func(ctx context.Context, in, out [][]float32) error {
			copy(out[0], in[0])
			return c.Group.Sum(ctx, out[0])
		},
		Backward: func(_ context.Context, dOut, dIn [][]float32) error {
			copy(dIn[0], dOut[0])
			return nil
		},
	}, []autograd.Var{x}, autograd.Shape{Rows: x.T.Rows, Cols: x.T.Cols})[0]
}

// spread is x, which all shards have, for what each does with it alone: its gradient is the sum of theirs.
func (c *Ctx) spread(x autograd.Var) autograd.Var {
	if !x.Wants() {
		return x
	}
	return c.Host(autograd.HostFunc{
		Forward: func(_ context.Context, in, out [][]float32) error {
			copy(out[0], in[0])
			return nil
		},
		Backward: func(ctx context.Context, dOut, dIn [][]float32) error {
			copy(dIn[0], dOut[0])
			return c.Group.Sum(ctx, dIn[0])
		},
	}, []autograd.Var{x}, autograd.Shape{Rows: x.T.Rows, Cols: x.T.Cols})[0]
}

// ownRows is the sum over shards of x, rows of a token table, each of which one shard has.
func (c *Ctx) ownRows(x autograd.Var) autograd.Var {
	own := c.laidOut.own
	keep := func(v []float32) {
		width := len(v) / len(own)
		for i, mine := range own {
			if !mine {
				clear(v[i*width : (i+1)*width])
			}
		}
	}
	return c.Host(autograd.HostFunc{
		Forward: func(ctx context.Context, in, out [][]float32) error {
			copy(out[0], in[0])
			keep(out[0])
			return c.Group.Sum(ctx, out[0])
		},
		Backward: func(_ context.Context, dOut, dIn [][]float32) error {
			copy(dIn[0], dOut[0])
			keep(dIn[0])
			return nil
		},
	}, []autograd.Var{x}, autograd.Shape{Rows: x.T.Rows, Cols: x.T.Cols})[0]
}
