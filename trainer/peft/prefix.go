package peft

import (
	"fmt"
	"math"
	"strings"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// Prefix puts learned keys and values before those of each layer (Li and Liang 2021, arXiv:2101.00190). Keys are learned
// as attention sees them, without a rotation; the text's positions start behind them.
//
// With a projection they are learned through a small network that all layers share but for its last matrix,
// embedding → Linear → tanh → Linear, and files hold what it gives (section 4.3). An adapter that was read from a file
// has no network any more.
type Prefix struct {
	base
	keys, values []*autograd.Param // per layer (tokens, kv); of an adapter without projection

	embedding, inner, innerBias *autograd.Param   // (tokens, kv), (hidden, kv), (1, hidden)
	outer, outerBias            []*autograd.Param // per layer (2·kv, hidden), (1, 2·kv)

	file []float32 // prompt_embeddings, of an adapter from a file
}

// promptTensor is the one tensor of prefix and prompt tuning in a file.
const promptTensor = "prompt_embeddings"

// maxVirtual is above any useful number of virtual tokens.
const maxVirtual = 1 << 14

func (p *Prefix) place() error {
	o := &p.Config.Prefix
	if err := p.checkTokens("prefix.tokens", o.Tokens); err != nil {
		return err
	}
	if o.Hidden < 0 || o.Hidden > 1<<16 {
		return fmt.Errorf("prefix.hidden: %d is outside 1 to %d", o.Hidden, 1<<16)
	}
	if o.Projection && o.Hidden == 0 {
		o.Hidden = p.model.Config.Hidden
	}
	kv := p.width()
	if o.Projection {
		p.embedding = p.hidden("prompt_encoder.embedding.weight", 0, o.Tokens, kv, o.Tokens, kv)
		p.inner = p.hidden("prompt_encoder.transform.0.weight", 0, o.Hidden, kv, o.Hidden, kv)
		p.innerBias = p.hidden("prompt_encoder.transform.0.bias", 0, 1, o.Hidden, o.Hidden)
	}
	for i := range p.model.Blocks {
		if o.Projection {
			name := fmt.Sprintf("prompt_encoder.transform.2.layers.%d.", i)
			p.outer = append(p.outer, p.hidden(name+"weight", 1+i, 2*kv, o.Hidden, 2*kv, o.Hidden))
			p.outerBias = append(p.outerBias, p.hidden(name+"bias", 1+i, 1, 2*kv, 2*kv))
			continue
		}
		name := fmt.Sprintf("%s.layers.%d.", promptTensor, i)
		p.keys = append(p.keys, p.hidden(name+"key", 1+i, o.Tokens, kv, o.Tokens, kv))
		p.values = append(p.values, p.hidden(name+"value", 1+i, o.Tokens, kv, o.Tokens, kv))
	}
	p.tensors = []tensor{{promptTensor, []int{o.Tokens, 2 * kv * len(p.model.Blocks)}, p.pack}}
	p.fresh, p.config, p.unpack = p.begin, p.fileConfig, p.cut
	return nil
}

// width is that of a layer's keys.
func (p *Prefix) width() int { return p.model.Config.KVHeads * p.model.Config.HeadDim }

// checkTokens bounds virtual tokens, which take positions from the text.
func (b *base) checkTokens(key string, n int) error {
	if limit := min(maxVirtual, b.model.Config.MaxPos-2); n < 1 || n > limit {
		return fmt.Errorf("%s: %d is outside 1 to %d, which leaves the model room for text", key, n, limit)
	}
	return nil
}

// begin draws embeddings and the weights of the network as PyTorch does, and keys and values small.
func (p *Prefix) begin(q *autograd.Param, dst []float32) error {
	switch {
	case q == p.embedding:
		normal(dst, p.seed, q.Name, 1)
	case p.embedding == nil:
		normal(dst, p.seed, q.Name, freshStd)
	case strings.HasSuffix(q.Name, ".bias") && q != p.innerBias:
		uniform(dst, p.seed, q.Name, 1/math.Sqrt(float64(p.Config.Prefix.Hidden)))
	case q == p.innerBias:
		uniform(dst, p.seed, q.Name, 1/math.Sqrt(float64(p.width())))
	default:
		uniform(dst, p.seed, q.Name, 1/math.Sqrt(float64(q.Cols)))
	}
	return nil
}

// freshStd is the spread of fresh keys and values: that of the activations of a trained model to about a factor of two.
// Much larger ones drown the text at first; zeros would learn nothing, since keys learn through values and the reverse.
const freshStd = 0.5

// Before implements model.BeforeOverlay.
func (p *Prefix) Before() (positions, rows int) { return p.Config.Prefix.Tokens, 0 }

// Shared implements model.ShareOverlay.
func (p *Prefix) Shared() []*autograd.Param {
	if p.embedding == nil {
		return nil
	}
	return []*autograd.Param{p.embedding, p.inner, p.innerBias}
}

// Share makes the part of the network that all layers share.
func (p *Prefix) Share(c *model.Ctx) {
	c.Shared = c.Tanh(c.Tape.Linear(c.Value(p.embedding), p.inner, p.innerBias, false))
}

// Prefix implements model.PrefixOverlay.
func (p *Prefix) Prefix(c *model.Ctx, layer int) (k, v autograd.Var) {
	if p.embedding == nil {
		return c.Value(p.keys[layer]), c.Value(p.values[layer])
	}
	kv := p.width()
	both := c.Split(c.Tape.Linear(c.Shared, p.outer[layer], p.outerBias[layer], false), kv, kv)
	return both[0], both[1]
}

// pack makes the file's tensor (tokens, layers·2·kv): of each token, layer by layer, key and value.
func (p *Prefix) pack(value func(*autograd.Param) []float32) []float32 {
	n, kv := p.Config.Prefix.Tokens, p.width()
	row := 2 * kv * len(p.model.Blocks)
	out := make([]float32, n*row)
	put := func(src []float32, width, at int) { // src (n, width) becomes columns from at on
		for t := range n {
			copy(out[t*row+at:][:width], src[t*width:])
		}
	}
	var h []float32
	if p.embedding != nil {
		h = affine(value(p.embedding), value(p.inner), value(p.innerBias), kv)
		for i, x := range h {
			h[i] = float32(math.Tanh(float64(x)))
		}
	}
	for i := range p.model.Blocks {
		if p.embedding != nil {
			put(affine(h, value(p.outer[i]), value(p.outerBias[i]), p.Config.Prefix.Hidden), 2*kv, 2*kv*i)
			continue
		}
		put(value(p.keys[i]), kv, 2*kv*i)
		put(value(p.values[i]), kv, 2*kv*i+kv)
	}
	return out
}

// affine is x·Wᵀ + b with x (n, in) and w (out, in), summed in float64 and rounded once.
func affine(x, w, b []float32, in int) []float32 {
	out := make([]float32, 0, len(x)/in*len(b))
	for lo := 0; lo < len(x); lo += in {
		for o, bias := range b {
			sum := float64(bias)
			for i, v := range x[lo : lo+in] {
				sum += float64(v) * float64(w[o*in+i])
			}
			out = append(out, float32(sum))
		}
	}
	return out
}

// opened reads the file's tensor, which all layers share.
func (p *Prefix) opened() error {
	p.file = make([]float32, p.Config.Prefix.Tokens*2*p.width()*len(p.model.Blocks))
	return p.stored.ReadF32(promptTensor, p.file)
}

// cut takes one layer's keys or values from the file's tensor.
func (p *Prefix) cut(q *autograd.Param, dst []float32) error {
	n, kv := p.Config.Prefix.Tokens, p.width()
	row := 2 * kv * len(p.model.Blocks)
	for i := range p.keys {
		at := -1
		switch q {
		case p.keys[i]:
			at = 2 * kv * i
		case p.values[i]:
			at = 2*kv*i + kv
		}
		if at >= 0 {
			for t := range n {
				copy(dst[t*kv:][:kv], p.file[t*row+at:])
			}
			return nil
		}
	}
	return fmt.Errorf("%s is no part of %s", q.Name, promptTensor)
}
