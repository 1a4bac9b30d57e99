package model

import "github.com/seed-7b27c88a/shoal/trainer/autograd"

// Linear is a layer y = x·Wᵀ + b, and the only way to a matrix product with a weight.
type Linear struct {
	Path  string          // module path, as "model.layers.0.self_attn.q_proj"
	W     *autograd.Param // (out, in), or (in, out) with InOut
	B     *autograd.Param // (1, out), nil: none
	InOut bool            // GPT-2's Conv1D stores its weight transposed
	Split Split           // of a shard
}

// Split says what of a layer a shard has.
type Split uint8

const (
	NotSplit  Split = iota
	ByOutputs       // some outputs; all shards have the input
	ByInputs        // the products with some inputs; the result is the sum over all shards
)

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
	if l.Split == ByOutputs {
		x = c.spread(x)
	}
	return l.apply(c, x)
}

// apply is Forward on an input that is spread already.
func (l *Linear) apply(c *Ctx, x autograd.Var) autograd.Var {
	if o, ok := c.Over.(InputOverlay); ok {
		x = o.Input(c, l, x)
	}
	if l.Split != ByInputs {
		return l.overlaid(c, x, c.Tape.Linear(x, l.W, l.B, l.InOut))
	}
	bias := l.B
	if !c.first {
		bias = nil // the first shard adds it
	}
	return c.sum(l.overlaid(c, x, c.Tape.Linear(x, l.W, bias, l.InOut)))
}

// overlaid is the layer's output y on x as the pass's overlay has it.
func (l *Linear) overlaid(c *Ctx, x, y autograd.Var) autograd.Var {
	if c.Over == nil {
		return y
	}
	return c.Over.Linear(c, l, x, y)
}

// together runs layers that share their input x, as one product where their weights lie side by side.
func together(c *Ctx, x autograd.Var, layers ...*Linear) (ys [3]autograd.Var) {
	if layers[0].Split == ByOutputs {
		x = c.spread(x)
	}
	w, b, ok := joined(c, layers)
	if !ok {
		for i, l := range layers {
			ys[i] = l.apply(c, x)
		}
		return ys
	}
	var widths [3]int
	for i, l := range layers {
		widths[i] = l.Out()
	}
	parts := c.Split(c.Tape.Linear(x, w, b, false), widths[:len(layers)]...)
	for i, l := range layers {
		ys[i] = l.overlaid(c, x, parts[i])
	}
	return ys
}

// joined are the weights and biases of layers as one, if they can be: an overlay that changes what goes into a layer may
// give each another input.
func joined(c *Ctx, layers []*Linear) (w, b *autograd.Param, ok bool) {
	if _, apart := c.Over.(InputOverlay); apart {
		return nil, nil, false
	}
	var ws, bs autograd.Few
	for i, l := range layers {
		if l.InOut || (l.B == nil) != (layers[0].B == nil) {
			return nil, nil, false
		}
		ws[i], bs[i] = l.W, l.B
	}
	if w = c.Join(ws); w == nil {
		return nil, nil, false
	}
	if layers[0].B != nil {
		b = c.Join(bs)
		return w, b, b != nil
	}
	return w, nil, true
}
