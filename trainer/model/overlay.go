package model

import "github.com/seed-7b27c88a/shoal/trainer/autograd"

// Overlay is what an adapter does to a forward pass: it changes what a linear layer gives. y is the layer's own output
// on x; the result has y's shape. An Overlay that also acts elsewhere implements the interfaces below.
type Overlay interface {
	Linear(c *Ctx, l *Linear, x, y autograd.Var) autograd.Var
}

// InputOverlay changes what goes into a linear layer.
type InputOverlay interface {
	Input(c *Ctx, l *Linear, x autograd.Var) autograd.Var
}

// Branch names what a block adds to the residual stream.
type Branch int

const (
	AttentionBranch Branch = iota
	FeedForwardBranch
)

// BranchOverlay changes what a block is about to add to the residual stream, h (N, C).
type BranchOverlay interface {
	Branch(c *Ctx, layer int, b Branch, h autograd.Var) autograd.Var
}

// EmbedOverlay changes the rows of the token table that go into the model, x (N, C), before positions are added to them.
type EmbedOverlay interface {
	Embed(c *Ctx, x autograd.Var) autograd.Var
}

// BeforeOverlay puts something before each text, so that the text's positions start later. Some of these positions may
// be rows of the residual stream, with Embed to fill them: Batch.Virtual says where they are.
type BeforeOverlay interface {
	Before() (positions, rows int)
}

// PrefixOverlay puts keys and values (P, KVHeads·HeadDim) before those of a layer, for every text. Keys are not rotated.
type PrefixOverlay interface {
	Prefix(c *Ctx, layer int) (k, v autograd.Var)
}

// Before is what an overlay, or none, puts before each text: positions, and how many of them are rows.
func Before(o Overlay) (positions, rows int) {
	if b, ok := o.(BeforeOverlay); ok {
		return b.Before()
	}
	return 0, 0
}

// branch is h as the pass's overlay has it.
func (c *Ctx) branch(layer int, b Branch, h autograd.Var) autograd.Var {
	if o, ok := c.Over.(BranchOverlay); ok {
		return o.Branch(c, layer, b, h)
	}
	return h
}

// embedTokens looks up the pass's tokens, as its overlay has them.
func (c *Ctx) embedTokens(table *autograd.Param) autograd.Var {
	x := c.Gather(table, c.IDs)
	if c.Group != nil {
		x = c.ownRows(x)
	}
	x = c.noisy(x)
	if o, ok := c.Over.(EmbedOverlay); ok {
		return o.Embed(c, x)
	}
	return x
}
