package model

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

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

// known lists the architectures, for messages.
const known = "llama, mistral, qwen2, qwen3, gemma2, phi3, gpt2"

// refuse names what shoal cannot compute.
func (p *parser) refuse() {
	r := p.raw
	experts := max(*or(r.LocalExperts, 0), *or(r.Experts, 0), *or(r.Routed, 0))
	switch {
	case experts > 1:
		p.fail("num_experts: %.40q is a mixture of %d experts; shoal trains dense models (%s)", r.ModelType, experts, known)
	case mixture(r.ModelType):
		p.fail("model_type: %.40q is a mixture of experts; shoal trains dense models (%s)", r.ModelType, known)
	case given(r.Vision):
		p.fail("vision_config: %.40q reads images; shoal trains models of text alone (%s)", r.ModelType, known)
	case r.TwoParts != nil && *r.TwoParts:
		p.fail("is_encoder_decoder: %.40q has an encoder; shoal trains decoders alone (%s)", r.ModelType, known)
	case architectures(r.ModelType) == nil:
		p.fail("model_type: %.40q is not an architecture that shoal knows (%s)", r.ModelType, known)
	case given(r.Quantization):
		p.fail("quantization_config: quantized files are not supported; take the original weights")
	case r.PartialRope != nil && *r.PartialRope != 1:
		p.fail("partial_rotary_factor: %v is not supported", *r.PartialRope)
	case r.Bidirectional != nil && *r.Bidirectional:
		p.fail("use_bidirectional_attention: true is not supported")
	}
}

// mixture knows mixtures of experts by name, for configs that do not count the experts.
func mixture(modelType string) bool {
	switch modelType {
	case "mixtral", "deepseek_v2", "deepseek_v3", "dbrx", "jamba", "gpt_oss", "arctic", "jetmoe", "llama4", "minimax":
		return true
	}
	return strings.HasSuffix(modelType, "moe")
}

func given(b []byte) bool { return len(b) > 0 && string(b) != "null" }

// llama reads the configs of Llama's relatives: all but GPT-2's.
func (p *parser) llama() {
	r, c := p.raw, p.c
	c.Hidden = p.size("hidden_size", r.Hidden, maxWidth)
	c.Inner = p.size("intermediate_size", r.Inner, maxWidth)
	c.Layers = p.size("num_hidden_layers", r.Layers, maxLayers)
	c.Heads = p.size("num_attention_heads", r.Heads, maxWidth)
	c.Vocab = p.size("vocab_size", r.Vocab, maxVocab)
	c.MaxPos = p.size("max_position_embeddings", or(r.MaxPos, 2048), maxPositions)
	c.Eps = p.eps("rms_norm_eps", r.RMSEps, 1e-6)
	c.Tied = *or(r.Tied, c.Type == "gemma2")
	c.KVHeads = p.size("num_key_value_heads", or(r.KVHeads, c.Heads), maxWidth)
	p.activation()
	if p.err != nil {
		return
	}
	p.headDim()
	if c.HeadDim%2 != 0 || c.HeadDim*c.Heads > maxWidth {
		p.fail("head_dim: %d of %d heads is not supported", c.HeadDim, c.Heads)
	}
	if c.Heads%c.KVHeads != 0 {
		p.fail("num_key_value_heads: %d does not divide num_attention_heads %d", c.KVHeads, c.Heads)
	}
	c.Scale = float32(1 / math.Sqrt(float64(c.HeadDim)))
	if c.Type == "gemma2" {
		p.gemma2()
	}
	p.rope()
	p.windows()
}

// activation refuses what the architecture's gate does not compute. Gemma's files say gelu and mean its tanh form.
func (p *parser) activation() {
	key, act, want := "hidden_act", *or(p.raw.Act, "silu"), []string{"silu", "swish"}
	if p.c.Type == "gemma2" {
		key, act, want = "hidden_activation", *or(p.raw.Act2, "gelu_pytorch_tanh"), []string{"gelu_pytorch_tanh", "gelu_new"}
	}
	if !slices.Contains(want, act) {
		p.fail("%s: %.40q is not supported, only %s", key, act, want[0])
	}
}

// headDim takes the width of a head, which most models derive and some state.
func (p *parser) headDim() {
	r, c := p.raw, p.c
	derived := c.Hidden / c.Heads
	switch c.Type { // transformers' defaults
	case "qwen3":
		derived = 128
	case "gemma2":
		derived = 256
	default:
		if r.HeadDim == nil && c.Hidden%c.Heads != 0 {
			p.fail("num_attention_heads: %d does not divide hidden_size %d", c.Heads, c.Hidden)
		}
	}
	c.HeadDim = p.size("head_dim", or(r.HeadDim, derived), maxWidth)
}

// gemma2 takes the scale and the bounds that Gemma 2 alone has.
func (p *parser) gemma2() {
	r, c := p.raw, p.c
	c.Scale = float32(1 / math.Sqrt(p.positive("query_pre_attn_scalar", or(r.QueryScalar, 256))))
	c.AttnCap = p.softcap("attn_logit_softcapping", r.AttnCap, 50)
	c.LogitCap = p.softcap("final_logit_softcapping", r.LogitCap, 30)
}

func (p *parser) softcap(key string, v softcap, otherwise float64) float32 {
	switch {
	case !v.there:
		return float32(otherwise)
	case v.value == nil:
		return 0
	}
	return float32(p.positive(key, v.value))
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
	c.Scale = float32(1 / math.Sqrt(float64(c.HeadDim)))
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

func (p *parser) positive(key string, v *float64) float64 {
	if v == nil || !(*v > 1e-30 && *v < 1e30) {
		p.fail("%s: missing or not a positive number", key)
		return 1
	}
	return *v
}

func or[T any](v *T, otherwise T) *T {
	if v == nil {
		return &otherwise
	}
	return v
}
