package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
)

// ConfigFile is the name of the file that describes a model.
const ConfigFile = "config.json"

const generationFile = "generation_config.json"

// Bounds on config.json. The file's bound is far above real ones, which a label table can make long; the others are
// above every published model and keep products of them inside 63 bits.
const (
	maxConfigBytes = 8 << 20
	maxWidth       = 1 << 20
	maxVocab       = 1 << 24
	maxPositions   = 1 << 26
	maxLayers      = 1 << 12
)

// Config is what config.json says, completed with the defaults of its architecture.
type Config struct {
	Type          string // model_type
	Hidden, Inner int    // width of the residual stream, of the feed-forward layer
	Layers        int
	Heads         int
	KVHeads       int
	HeadDim       int
	Vocab         int
	MaxPos        int // longest sequence
	Eps           float32
	Windows       []int     // per layer: keys that a query sees, 0: all
	Freq          []float32 // rotary frequencies, nil: no rotation
	Tied          bool      // the head shares the token table
	BOS, EOS      []int
}

// rawConfig has the keys that shoal honours, spelled as Hugging Face does. nil: absent or null.
type rawConfig struct {
	ModelType string `json:"model_type"`

	Hidden  *int     `json:"hidden_size"`
	Inner   *int     `json:"intermediate_size"`
	Layers  *int     `json:"num_hidden_layers"`
	Heads   *int     `json:"num_attention_heads"`
	KVHeads *int     `json:"num_key_value_heads"`
	HeadDim *int     `json:"head_dim"`
	Vocab   *int     `json:"vocab_size"`
	MaxPos  *int     `json:"max_position_embeddings"`
	Act     *string  `json:"hidden_act"`
	RMSEps  *float64 `json:"rms_norm_eps"`

	Theta       *float64     `json:"rope_theta"`
	Scaling     *ropeScaling `json:"rope_scaling"`
	RopeParams  *ropeScaling `json:"rope_parameters"`
	PartialRope *float64     `json:"partial_rotary_factor"`

	Window     window    `json:"sliding_window"`
	UseWindow  *bool     `json:"use_sliding_window"`
	MaxWindow  *int      `json:"max_window_layers"`
	LayerTypes *[]string `json:"layer_types"`

	NEmbd    *int     `json:"n_embd"`
	NLayer   *int     `json:"n_layer"`
	NHead    *int     `json:"n_head"`
	NPos     *int     `json:"n_positions"`
	NInner   *int     `json:"n_inner"`
	LNEps    *float64 `json:"layer_norm_epsilon"`
	GPTAct   *string  `json:"activation_function"`
	Unscaled *bool    `json:"scale_attn_weights"`
	ByLayer  *bool    `json:"scale_attn_by_inverse_layer_idx"`
	Cross    *bool    `json:"add_cross_attention"`

	Tied         *bool           `json:"tie_word_embeddings"`
	BOS          tokenIDs        `json:"bos_token_id"`
	EOS          tokenIDs        `json:"eos_token_id"`
	LocalExperts *int            `json:"num_local_experts"`
	Experts      *int            `json:"num_experts"`
	Quantization json.RawMessage `json:"quantization_config"`
}

// ropeScaling is rope_scaling, or rope_parameters of newer files.
type ropeScaling struct {
	RopeType *string  `json:"rope_type"`
	OldType  *string  `json:"type"`
	Factor   *float64 `json:"factor"`
	Low      *float64 `json:"low_freq_factor"`
	High     *float64 `json:"high_freq_factor"`
	Original *float64 `json:"original_max_position_embeddings"`
	Theta    *float64 `json:"rope_theta"`
}

// window tells null, which is none, from an absent key, for which Mistral has a default.
type window struct {
	there bool
	size  *int
}

func (w *window) UnmarshalJSON(b []byte) error {
	w.there = true
	return json.Unmarshal(b, &w.size)
}

// tokenIDs is a token id, a list of them, or null.
type tokenIDs []int

func (t *tokenIDs) UnmarshalJSON(b []byte) error {
	var one *int
	if json.Unmarshal(b, &one) == nil {
		if *t = nil; one != nil {
			*t = tokenIDs{*one}
		}
		return nil
	}
	return json.Unmarshal(b, (*[]int)(t))
}

// ReadConfig reads and checks config.json, and takes the tokens that end a text from generation_config.json where that
// names them, as transformers does.
func ReadConfig(files Files) (*Config, error) {
	text, err := readSmall(files, ConfigFile, maxConfigBytes)
	if err != nil {
		return nil, err
	}
	c, err := ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ConfigFile, err)
	}
	text, err = readSmall(files, generationFile, maxConfigBytes)
	if isAbsent(err) {
		return c, nil
	}
	var g struct {
		EOS tokenIDs `json:"eos_token_id"`
	}
	if err == nil {
		err = json.Unmarshal(text, &g)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", generationFile, err)
	}
	if len(g.EOS) > 0 {
		c.EOS = g.EOS
	}
	return c, nil
}

// ParseConfig checks the text of a config.json. Errors name the key.
func ParseConfig(text []byte) (*Config, error) {
	var r rawConfig
	if err := json.Unmarshal(text, &r); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			return nil, fmt.Errorf("%s: %s is no %s", wrong.Field, wrong.Value, wrong.Type)
		}
		return nil, err
	}
	p := &parser{raw: &r, c: &Config{Type: r.ModelType, BOS: r.BOS, EOS: r.EOS}}
	p.refuse()
	switch {
	case p.err != nil:
	case r.ModelType == "gpt2":
		p.gpt2()
	default:
		p.llama()
	}
	if p.err != nil {
		return nil, p.err
	}
	return p.c, nil
}

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
	if r.Unscaled != nil && !*r.Unscaled {
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

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// readSmall reads a whole file of at most limit bytes.
func readSmall(files Files, path string, limit int64) ([]byte, error) {
	r, size, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	if size > limit {
		return nil, fmt.Errorf("%s: %d bytes, limit %d", path, size, limit)
	}
	text := make([]byte, size)
	if n, err := r.ReadAt(text, 0); n < len(text) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return slices.Clip(text), nil
}
