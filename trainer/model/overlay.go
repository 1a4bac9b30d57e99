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

// EmbedOverlay changes the residual stream that goes into the first block.
type EmbedOverlay interface {
	Embed(c *Ctx, x autograd.Var) autograd.Var
}

// branch is h as the pass's overlay has it.
func (c *Ctx) branch(layer int, b Branch, h autograd.Var) autograd.Var {
	if o, ok := c.Over.(BranchOverlay); ok {
		return o.Branch(c, layer, b, h)
	}
	return h
}

// embedded is x as the pass's overlay has it.
func (c *Ctx) embedded(x autograd.Var) autograd.Var {
	if o, ok := c.Over.(EmbedOverlay); ok {
		return o.Embed(c, x)
	}
	return x
}
