package model

import "github.com/seed-7b27c88a/shoal/trainer/autograd"

// Linear is a layer y = x·Wᵀ + b, and the only way to a matrix product with a weight.
type Linear struct {
	Path  string          // module path, as "model.layers.0.self_attn.q_proj"
	W     *autograd.Param // (out, in), or (in, out) with InOut
	B     *autograd.Param // (1, out), nil: none
	InOut bool            // GPT-2's Conv1D stores its weight transposed
}

// In is the width of the input.
func (l *Linear) In() int {
	if l.InOut {
		return l.W.Rows
	}
	return l.W.Cols
}

// Out is the width of the output.
func (l *Linear) Out() int {
	if l.InOut {
		return l.W.Cols
	}
	return l.W.Rows
}

// Forward is the layer with the pass's overlay on it.
func (l *Linear) Forward(c *Ctx, x autograd.Var) autograd.Var {
	if o, ok := c.Over.(InputOverlay); ok {
		x = o.Input(c, l, x)
	}
	y := c.Tape.Linear(x, l.W, l.B, l.InOut)
	if c.Over == nil {
		return y
	}
	return c.Over.Linear(c, l, x, y)
}

// together runs layers that share their input x.
func together(c *Ctx, x autograd.Var, layers ...*Linear) (ys [3]autograd.Var) {
	for i, l := range layers {
		ys[i] = l.Forward(c, x)
	}
	return ys
}
