// Package peft holds the parameter-efficient adapters: overlays on a model's forward, never surgery on the model. They
// are read from and written to PEFT directories key for key, so that stock PEFT loads them.
//
// Concurrency. An adapter is read-only once made and may serve several tapes.
package peft

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// Config is what makes a LoRA.
type Config struct {
	R       int
	Alpha   float64
	Dropout float64
	RSLoRA  bool     // scale alpha/√r instead of alpha/r
	Targets []string // last parts of module paths; empty: the family's default
	All     bool     // every linear layer except the head
}

// LoRA adds s·B·A·drop(x) to linear layers (Hu et al. 2021, arXiv:2106.09685, eq. 3), with s = alpha/r, or alpha/√r
// (rsLoRA, Kalajdzievski 2023, arXiv:2312.03732).
type LoRA struct {
	Config
	Params []*autograd.Param // A and B of each layer, in model order; named as PEFT names them

	model  *model.Model
	pairs  map[*model.Linear]*pair
	seed   uint64
	stored *safetensors.Set // where the values come from; nil: fresh
}

// pair is the adapter of one layer.
type pair struct {
	a, b *autograd.Param // (r, in), (out, r)
	site int32           // which layer draws the dropout mask
}

// maxRank is far above any useful rank.
const maxRank = 1 << 14

// New makes a fresh adapter for m. Its A is drawn from seed and the layer's name, so every node makes the same one.
func New(m *model.Model, cfg Config, seed uint64) (*LoRA, error) {
	if cfg.R < 1 || cfg.R > maxRank {
		return nil, fmt.Errorf("lora_r: %d is outside 1 to %d", cfg.R, maxRank)
	}
	if !(cfg.Dropout >= 0 && cfg.Dropout < 1) {
		return nil, fmt.Errorf("lora_dropout: %v is outside 0 to 1", cfg.Dropout)
	}
	if math.IsNaN(cfg.Alpha) || math.IsInf(cfg.Alpha, 0) {
		return nil, fmt.Errorf("lora_alpha: %v is no number", cfg.Alpha)
	}
	if len(cfg.Targets) == 0 && !cfg.All {
		cfg.Targets = defaultTargets(m.Config.Type)
	}
	l := &LoRA{Config: cfg, model: m, pairs: map[*model.Linear]*pair{}, seed: seed}
	if err := l.place(); err != nil {
		return nil, err
	}
	return l, nil
}

// defaultTargets are stock PEFT's.
func defaultTargets(modelType string) []string {
	switch modelType {
	case "gpt2":
		return []string{"c_attn"}
	case "phi3":
		return []string{"qkv_proj"}
	}
	return []string{"q_proj", "v_proj"}
}

// place makes the handles.
func (l *LoRA) place() error {
	hit := make([]bool, len(l.Targets))
	for i, lin := range l.model.Linear {
		k := slices.IndexFunc(l.Targets, func(t string) bool { return lin.Path == t || strings.HasSuffix(lin.Path, "."+t) })
		if k < 0 && !l.All {
			continue
		}
		if k >= 0 {
			hit[k] = true
		}
		p := &pair{a: l.param(lin, "lora_A", l.R, lin.In()), b: l.param(lin, "lora_B", lin.Out(), l.R), site: int32(i)}
		l.pairs[lin] = p
		l.Params = append(l.Params, p.a, p.b)
	}
	if miss := slices.Index(hit, false); miss >= 0 && !l.All {
		return fmt.Errorf("lora_target_modules: no linear layer of this %s is called %.80q (it has %s)",
			l.model.Config.Type, l.Targets[miss], strings.Join(layerNames(l.model), ", "))
	}
	if len(l.Params) == 0 {
		return fmt.Errorf("lora_target_modules: no linear layer to adapt")
	}
	return nil
}

func (l *LoRA) param(lin *model.Linear, which string, rows, cols int) *autograd.Param {
	return &autograd.Param{Name: "base_model.model." + lin.Path + "." + which + ".weight", Unit: lin.W.Unit,
		Kind: autograd.Adapter, Rows: rows, Cols: cols, Shape: []int{rows, cols}, Off: -1}
}

// layerNames are the last parts of the module paths, each once, in model order.
func layerNames(m *model.Model) (names []string) {
	for _, lin := range m.Linear {
		if name := lin.Path[strings.LastIndexByte(lin.Path, '.')+1:]; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// Of lists the parameters of a layer's adapter, A and B; none where it has no adapter.
func (l *LoRA) Of(lin *model.Linear) []*autograd.Param {
	if p := l.pairs[lin]; p != nil {
		return []*autograd.Param{p.a, p.b}
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
		x = c.Drop(x, mask(c, l, p))
	}
	low := c.Scale(c.Tape.Linear(x, p.a, nil, false), float32(l.Scale())) // (N, r)
	return c.AddLinear(y, low, p.b)
}

// Merge adds s·B·A to a layer's weight, in place. Sums run over r in order, in float64, and are rounded once.
func (l *LoRA) Merge(lin *model.Linear, w []float32, value func(*autograd.Param) []float32) {
	p := l.pairs[lin]
	if p == nil {
		return
	}
	a, b := value(p.a), value(p.b)
	in, out := lin.In(), lin.Out()
	sum := make([]float64, in)
	for o := range out {
		clear(sum)
		for k := range l.R {
			f := l.Scale() * float64(b[o*l.R+k])
			for i, v := range a[k*in : (k+1)*in] {
				sum[i] += f * float64(v)
			}
		}
		for i, d := range sum {
			at := o*in + i
			if lin.InOut {
				at = i*out + o
			}
			w[at] = float32(float64(w[at]) + d)
		}
	}
}
