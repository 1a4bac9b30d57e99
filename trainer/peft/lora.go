package peft

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// LoRA adds s·B·A·drop(x) to linear layers (Hu et al. 2021, arXiv:2106.09685, eq. 3), with s = alpha/r, or alpha/√r
// (rsLoRA, Kalajdzievski 2023, arXiv:2312.03732). DoRA then gives each output row of the weight W + s·B·A a length of its
// own; see dora.go.
type LoRA struct {
	base
	pairs map[*model.Linear]*pair
}

// pair is the adapter of one layer.
type pair struct {
	a, b *autograd.Param // (r, in), (out, r)
	mag  *autograd.Param // (1, out) of DoRA, else nil
	site int32           // which layer draws the dropout mask
}

// maxRank is far above any useful rank.
const maxRank = 1 << 14

func (l *LoRA) place() error {
	switch {
	case l.R < 1 || l.R > maxRank:
		return fmt.Errorf("lora_r: %d is outside 1 to %d", l.R, maxRank)
	case !(l.Dropout >= 0 && l.Dropout < 1):
		return fmt.Errorf("lora_dropout: %v is outside 0 to 1", l.Dropout)
	case !finite(l.Alpha):
		return fmt.Errorf("lora_alpha: %v is no number", l.Alpha)
	}
	if len(l.Targets) == 0 && !l.All { // as in stock PEFT
		l.Targets = first(l.model, []string{"q_proj", "v_proj"}, []string{"qkv_proj"}, []string{"c_attn"})
	}
	layers, err := chosen(l.model, "lora_target_modules", l.Targets, l.All)
	if err != nil {
		return err
	}
	l.pairs = map[*model.Linear]*pair{}
	for _, lin := range layers {
		l.pairs[lin] = l.pair(lin, int32(slices.Index(l.model.Linear, lin)))
	}
	l.fresh, l.config = l.begin, l.fileConfig
	return nil
}

func (l *LoRA) pair(lin *model.Linear, site int32) *pair {
	name, unit := prefixOfNames+lin.Path+".", lin.W.Unit
	in, out := lin.In(), lin.Out()
	p := &pair{a: l.add(name+"lora_A.weight", unit, l.R, in, l.R, in), b: l.add(name+"lora_B.weight", unit, out, l.R, out, l.R), site: site}
	if l.Method == job.AdapterDora {
		p.mag = l.add(name+"lora_magnitude_vector", unit, 1, out, out)
	}
	return p
}

// begin gives A = U(±1/√in), which is PyTorch's kaiming_uniform with a = √5, B = 0, and lengths that change nothing.
func (l *LoRA) begin(p *autograd.Param, dst []float32) error {
	switch {
	case strings.HasSuffix(p.Name, ".lora_B.weight"):
		clear(dst)
	case strings.HasSuffix(p.Name, ".lora_A.weight"):
		uniform(dst, l.seed, p.Name, 1/math.Sqrt(float64(p.Cols)))
	default:
		return l.lengths(p, dst)
	}
	return nil
}

// Scale is s.
func (l *LoRA) Scale() float64 {
	if l.RSLoRA {
		return l.Alpha / math.Sqrt(float64(l.R))
	}
	return l.Alpha / float64(l.R)
}

// Linear implements model.Overlay.
func (l *LoRA) Linear(c *model.Ctx, lin *model.Linear, x, y autograd.Var) autograd.Var {
	p := l.pairs[lin]
	if p == nil {
		return y
	}
	if c.Train && l.Dropout > 0 {
		x = c.Drop(x, l.mask(c, p))
	}
	low := c.Scale(c.Tape.Linear(x, p.a, nil, false), float32(l.Scale())) // (N, r)
	y = c.AddLinear(y, low, p.b)
	if p.mag == nil {
		return y
	}
	return l.renorm(c, lin, p, y)
}

// mask names the dropout mask of one layer: it depends on the job's seed, the step, the token and the layer alone.
func (l *LoRA) mask(c *model.Ctx, p *pair) kernels.Dropout {
	return kernels.Dropout{Rate: float32(l.Dropout), Seed: l.seed, Site: p.site, Step: c.Step, Key: c.Seqs.Key}
}

// pairOf finds the layer whose weight w is.
func (l *LoRA) pairOf(w *autograd.Param) (*model.Linear, *pair) {
	for lin, p := range l.pairs {
		if lin.W == w {
			return lin, p
		}
	}
	return nil, nil
}

// Of implements Merger.
func (l *LoRA) Of(w *autograd.Param) []*autograd.Param {
	switch _, p := l.pairOf(w); {
	case p == nil:
		return nil
	case p.mag == nil:
		return []*autograd.Param{p.a, p.b}
	default:
		return []*autograd.Param{p.a, p.b, p.mag}
	}
}

// Merge adds s·B·A to a layer's weight, in place, and gives the rows their lengths. Sums run over r in order, in float64,
// and are rounded once.
func (l *LoRA) Merge(w *autograd.Param, v []float32, value func(*autograd.Param) []float32) {
	lin, p := l.pairOf(w)
	if p == nil {
		return
	}
	a, b := value(p.a), value(p.b)
	var mag []float32
	if p.mag != nil {
		mag = value(p.mag)
	}
	in, out := lin.In(), lin.Out()
	row := make([]float64, in)
	for o := range out {
		at := func(i int) *float32 { return &v[o*in+i] }
		if lin.InOut {
			at = func(i int) *float32 { return &v[i*out+o] }
		}
		for i := range row {
			row[i] = 0
		}
		for k := range l.R {
			f := l.Scale() * float64(b[o*l.R+k])
			for i, x := range a[k*in : (k+1)*in] {
				row[i] += f * float64(x)
			}
		}
		for i := range row {
			row[i] += float64(*at(i))
		}
		if mag != nil {
			stretch(row, float64(mag[o]))
		}
		for i, x := range row {
			*at(i) = float32(x)
		}
	}
}
