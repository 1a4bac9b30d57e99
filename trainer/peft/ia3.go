package peft

import (
	"fmt"
	"slices"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// IA3 multiplies the outputs of some linear layers and the inputs of others by learned vectors that start at 1 (Liu et
// al. 2022, arXiv:2205.05638): keys and values, and what goes into the feed-forward layer's last product. Where queries,
// keys and values are one layer it scales all three, as stock PEFT does.
type IA3 struct {
	base
	outputs, inputs map[*model.Linear]*autograd.Param // (1, out), (1, in)
}

func (a *IA3) place() error {
	if len(a.Targets) == 0 {
		a.Targets = first(a.model, []string{"k_proj", "v_proj", "down_proj"}, []string{"qkv_proj", "down_proj"}, []string{"c_attn", "mlp.c_proj"})
	}
	if a.FeedForward == nil { // a file may say that there are none
		a.FeedForward = slices.DeleteFunc(slices.Clone(a.Targets), func(t string) bool { return t != "down_proj" && t != "mlp.c_proj" })
	}
	layers, err := chosen(a.model, "ia3.target_modules", a.Targets, false)
	if err != nil {
		return err
	}
	for _, t := range a.FeedForward {
		if !slices.Contains(a.Targets, t) {
			return fmt.Errorf("ia3.feedforward_modules: %.80q is not among target_modules; add it there", t)
		}
	}
	a.outputs, a.inputs = map[*model.Linear]*autograd.Param{}, map[*model.Linear]*autograd.Param{}
	for _, l := range layers {
		name := prefixOfNames + l.Path + ".ia3_l"
		if slices.ContainsFunc(a.FeedForward, func(t string) bool { return called(l, t) }) {
			a.inputs[l] = a.add(name, l.W.Unit, 1, l.In(), 1, l.In())
		} else {
			a.outputs[l] = a.add(name, l.W.Unit, 1, l.Out(), l.Out(), 1)
		}
	}
	a.fresh, a.config = ones, a.fileConfig
	return nil
}

func ones(_ *autograd.Param, dst []float32) error {
	for i := range dst {
		dst[i] = 1
	}
	return nil
}

// Input implements model.InputOverlay.
func (a *IA3) Input(c *model.Ctx, l *model.Linear, x autograd.Var) autograd.Var {
	if p := a.inputs[l]; p != nil {
		return c.ScaleCols(x, p)
	}
	return x
}

// Linear implements model.Overlay.
func (a *IA3) Linear(c *model.Ctx, l *model.Linear, _, y autograd.Var) autograd.Var {
	if p := a.outputs[l]; p != nil {
		return c.ScaleCols(y, p)
	}
	return y
}

// layerOf finds the layer that p is the weight or the bias of, and the vector that scales it.
func (a *IA3) layerOf(p *autograd.Param) (l *model.Linear, vector *autograd.Param, input bool) {
	for l, v := range a.inputs {
		if l.W == p {
			return l, v, true
		}
	}
	for l, v := range a.outputs {
		if l.W == p || l.B == p {
			return l, v, false
		}
	}
	return nil, nil, false
}

// Of implements Merger.
func (a *IA3) Of(p *autograd.Param) []*autograd.Param {
	if _, v, _ := a.layerOf(p); v != nil {
		return []*autograd.Param{v}
	}
	return nil
}

// Merge multiplies rows or columns of a weight, and elements of a bias. Each product is rounded once.
func (a *IA3) Merge(p *autograd.Param, w []float32, value func(*autograd.Param) []float32) {
	l, vector, input := a.layerOf(p)
	if vector == nil {
		return
	}
	f := value(vector)
	for i := range w {
		k := i % p.Cols // of a bias, of the inputs of a weight (out, in), of the outputs of one (in, out)
		if p == l.W && input == l.InOut {
			k = i / p.Cols
		}
		w[i] *= f[k]
	}
}
