package peft

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// Bottleneck is h + up(act(down(h))) on what a block's branches add to the residual stream: behind attention and behind
// the feed-forward layer (Houlsby et al. 2019, arXiv:1902.00751), or behind the latter alone (Pfeiffer et al. 2020,
// arXiv:2005.00247). up starts at zero, so that nothing changes at first. It is no part of PEFT, and not linear, so it
// cannot be merged.
type Bottleneck struct {
	base
	sites map[site]*bottleneck
}

type site struct {
	layer  int
	branch model.Branch
}

// bottleneck is the adapter at one site.
type bottleneck struct {
	down, downBias *autograd.Param // (m, hidden), (1, m)
	up, upBias     *autograd.Param // (hidden, m), (1, hidden)
}

// downStd is the spread of fresh down projections (Houlsby et al. 2019, section 3.6).
const downStd = 1e-2

func (b *Bottleneck) place() error {
	o := &b.Config.Bottleneck
	switch {
	case !(o.Reduction > 0 && finite(o.Reduction)):
		return fmt.Errorf("bottleneck.reduction: %v is no positive number", o.Reduction)
	case !slices.Contains(job.Activations(), o.Act):
		return fmt.Errorf("bottleneck.act: %.40q is not among %s", o.Act, strings.Join(job.Activations(), ", "))
	case len(o.Sites) == 0:
		return fmt.Errorf("bottleneck.sites: none is named")
	}
	hidden := b.model.Config.Hidden
	width := int(math.Round(float64(hidden) / o.Reduction))
	if width < 1 || width > 64*hidden {
		return fmt.Errorf("bottleneck.reduction: %v makes %d of the model's width of %d", o.Reduction, width, hidden)
	}
	b.sites = map[site]*bottleneck{}
	for layer := range b.model.Blocks {
		for _, branch := range []model.Branch{model.AttentionBranch, model.FeedForwardBranch} {
			if slices.Contains(o.Sites, branchWord(branch)) {
				b.sites[site{layer, branch}] = b.at(layer, branch, hidden, width)
			}
		}
	}
	b.fresh, b.config = b.begin, b.fileConfig
	return nil
}

// branchWord is the spec's word for a branch.
func branchWord(b model.Branch) string {
	if b == model.AttentionBranch {
		return "attn"
	}
	return "mlp"
}

func (b *Bottleneck) at(layer int, branch model.Branch, hidden, width int) *bottleneck {
	name, unit := prefixOfNames+branchPath(b.model, layer, branch)+".adapter_", 1+layer
	return &bottleneck{
		down: b.add(name+"down.weight", unit, width, hidden, width, hidden), downBias: b.add(name+"down.bias", unit, 1, width, width),
		up: b.add(name+"up.weight", unit, hidden, width, hidden, width), upBias: b.add(name+"up.bias", unit, 1, hidden, hidden),
	}
}

// branchPath is the path of the module that a branch is, as "model.layers.0.mlp": where the first linear layer of the
// block lies, or the last.
func branchPath(m *model.Model, layer int, branch model.Branch) string {
	var paths []string
	for _, l := range m.Linear {
		if l.W.Unit == 1+layer {
			path, _, _ := cutLast(l.Path)
			paths = append(paths, path)
		}
	}
	if branch == model.AttentionBranch {
		return paths[0]
	}
	return paths[len(paths)-1]
}

func (b *Bottleneck) begin(p *autograd.Param, dst []float32) error {
	if strings.HasSuffix(p.Name, ".adapter_down.weight") {
		normal(dst, b.seed, p.Name, downStd)
		return nil
	}
	clear(dst)
	return nil
}

// Branch implements model.BranchOverlay.
func (b *Bottleneck) Branch(c *model.Ctx, layer int, branch model.Branch, h autograd.Var) autograd.Var {
	s := b.sites[site{layer, branch}]
	if s == nil {
		return h
	}
	z := c.Tape.Linear(h, s.down, s.downBias, false)
	return c.Add(h, c.Tape.Linear(activate(c, b.Config.Bottleneck.Act, z), s.up, s.upBias, false))
}

func activate(c *model.Ctx, act string, x autograd.Var) autograd.Var {
	switch act {
	case job.SiLU:
		return c.SiLU(x)
	case job.GELU:
		return c.GELU(x)
	}
	return c.ReLU(x)
}
