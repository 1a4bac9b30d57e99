package model

import "fmt"

// parser fills a Config; the first error sticks.
type parser struct {
	raw *rawConfig
	c   *Config
	err error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

// refuse names what shoal cannot compute.
func (p *parser) refuse() {
	r := p.raw
	switch {
	case architectures(r.ModelType) == nil:
		p.fail("model_type: %.40q is not an architecture that shoal knows (llama, mistral, qwen2, gpt2)", r.ModelType)
	case r.LocalExperts != nil || r.Experts != nil:
		p.fail("num_experts: mixtures of experts are not supported")
	case len(r.Quantization) > 0 && string(r.Quantization) != "null":
		p.fail("quantization_config: quantized files are not supported; take the original weights")
	case r.PartialRope != nil && *r.PartialRope != 1:
		p.fail("partial_rotary_factor: %v is not supported", *r.PartialRope)
	}
}

func (p *parser) llama() {
	r, c := p.raw, p.c
	c.Hidden = p.size("hidden_size", r.Hidden, maxWidth)
	c.Inner = p.size("intermediate_size", r.Inner, maxWidth)
	c.Layers = p.size("num_hidden_layers", r.Layers, maxLayers)
	c.Heads = p.size("num_attention_heads", r.Heads, maxWidth)
	c.Vocab = p.size("vocab_size", r.Vocab, maxVocab)
	c.MaxPos = p.size("max_position_embeddings", or(r.MaxPos, 2048), maxPositions)
	c.Eps = p.eps("rms_norm_eps", r.RMSEps, 1e-6)
	c.Tied = r.Tied != nil && *r.Tied
	c.KVHeads = p.size("num_key_value_heads", or(r.KVHeads, c.Heads), maxWidth)
	if act := *or(r.Act, "silu"); act != "silu" && act != "swish" {
		p.fail("hidden_act: %.40q is not supported, only silu", act)
	}
	if p.err != nil {
		return
	}
	if r.HeadDim == nil && c.Hidden%c.Heads != 0 {
		p.fail("num_attention_heads: %d does not divide hidden_size %d", c.Heads, c.Hidden)
	}
	c.HeadDim = p.size("head_dim", or(r.HeadDim, c.Hidden/c.Heads), maxWidth)
	if c.HeadDim%2 != 0 || c.HeadDim*c.Heads > maxWidth {
		p.fail("head_dim: %d of %d heads is not supported", c.HeadDim, c.Heads)
	}
	if c.Heads%c.KVHeads != 0 {
		p.fail("num_key_value_heads: %d does not divide num_attention_heads %d", c.KVHeads, c.Heads)
	}
	p.rope()
	p.windows()
}

func (p *parser) gpt2() {
	r, c := p.raw, p.c
	c.Hidden = p.size("n_embd", r.NEmbd, maxWidth)
	c.Layers = p.size("n_layer", r.NLayer, maxLayers)
	c.Heads = p.size("n_head", r.NHead, maxWidth)
	c.Vocab = p.size("vocab_size", r.Vocab, maxVocab)
	c.MaxPos = p.size("n_positions", r.NPos, maxPositions)
	c.Inner = p.size("n_inner", or(r.NInner, 4*c.Hidden), 4*maxWidth)
	c.Eps = p.eps("layer_norm_epsilon", r.LNEps, 1e-5)
	c.Tied = r.Tied == nil || *r.Tied
	if act := *or(r.GPTAct, "gelu_new"); act != "gelu_new" && act != "gelu_pytorch_tanh" {
		p.fail("activation_function: %.40q is not supported, only gelu_new", act)
	}
	if r.Scaled != nil && !*r.Scaled {
		p.fail("scale_attn_weights: false is not supported")
	}
	if r.ByLayer != nil && *r.ByLayer {
		p.fail("scale_attn_by_inverse_layer_idx: true is not supported")
	}
	if r.Cross != nil && *r.Cross {
		p.fail("add_cross_attention: true is not supported")
	}
	if p.err == nil && c.Hidden%c.Heads != 0 {
		p.fail("n_head: %d does not divide n_embd %d", c.Heads, c.Hidden)
	}
	if p.err != nil {
		return
	}
	c.KVHeads, c.HeadDim, c.Windows = c.Heads, c.Hidden/c.Heads, make([]int, c.Layers)
}

// rope takes rope_theta and the scaling from where the file has them.
func (p *parser) rope() {
	s, theta := p.raw.Scaling, p.raw.Theta
	if n := p.raw.RopeParams; n != nil {
		s = n
		if n.Theta != nil {
			theta = n.Theta
		}
	}
	base := *or(theta, 10000)
	if !(base > 0 && base < 1e30) {
		p.fail("rope_theta: %v is not a positive number", base)
	}
	p.check(s)
	if p.err == nil {
		p.c.Freq = ropeFreqs(p.c.HeadDim, base, s)
	}
}

// check completes a scaling, or names what it lacks.
func (p *parser) check(s *ropeScaling) {
	switch s.kind() {
	case "", "default":
	case "linear":
		p.positive("rope_scaling.factor", s.Factor)
	case "llama3":
		p.positive("rope_scaling.factor", s.Factor)
		p.positive("rope_scaling.low_freq_factor", s.Low)
		p.positive("rope_scaling.high_freq_factor", s.High)
		p.positive("rope_scaling.original_max_position_embeddings", s.Original)
		if p.err == nil && *s.High <= *s.Low {
			p.fail("rope_scaling.high_freq_factor: %v is not above low_freq_factor %v", *s.High, *s.Low)
		}
	default:
		p.fail("rope_scaling.rope_type: %.40q is not supported (default, linear, llama3)", s.kind())
	}
}

func (s *ropeScaling) kind() string {
	switch {
	case s == nil:
		return ""
	case s.RopeType != nil:
		return *s.RopeType
	case s.OldType != nil:
		return *s.OldType
	}
	return ""
}

// windows says which layers see a sliding window: all of Mistral's, some of Qwen2's, or what layer_types says.
func (p *parser) windows() {
	r, c := p.raw, p.c
	c.Windows = make([]int, max(c.Layers, 0))
	size := r.Window.size
	switch {
	case c.Type == "llama", c.Type == "qwen2" && (r.UseWindow == nil || !*r.UseWindow):
		return
	case c.Type == "mistral" && !r.Window.there:
		size = new(4096) // transformers' default
	}
	if size == nil || p.err != nil {
		return
	}
	w := p.size("sliding_window", size, maxPositions)
	if r.LayerTypes != nil && len(*r.LayerTypes) != c.Layers {
		p.fail("layer_types: %d of them for %d layers", len(*r.LayerTypes), c.Layers)
		return
	}
	first := 0
	if c.Type == "qwen2" {
		first = *or(r.MaxWindow, 28) // transformers' default
	}
	for i := range c.Windows {
		slides := i >= first
		if r.LayerTypes != nil {
			kind := (*r.LayerTypes)[i]
			if slides = kind == "sliding_attention"; !slides && kind != "full_attention" {
				p.fail("layer_types: %.40q is not supported", kind)
			}
		}
		if slides {
			c.Windows[i] = w
		}
	}
}

// size takes a required number in [1, limit].
func (p *parser) size(key string, v *int, limit int) int {
	switch {
	case v == nil:
		p.fail("%s: missing", key)
	case *v < 1 || *v > limit:
		p.fail("%s: %d is outside 1 to %d", key, *v, limit)
	default:
		return *v
	}
	return 1 // keeps later divisions sane; the error is remembered
}

func (p *parser) eps(key string, v *float64, otherwise float64) float32 {
	e := *or(v, otherwise)
	if !(e >= 0 && e < 1) {
		p.fail("%s: %v is outside 0 to 1", key, e)
	}
	return float32(e)
}

func (p *parser) positive(key string, v *float64) {
	if v == nil || !(*v > 0 && *v < 1e30) {
		p.fail("%s: missing or not a positive number", key)
	}
}

func or[T any](v *T, otherwise T) *T {
	if v == nil {
		return &otherwise
	}
	return v
}
