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
	RopeScale     float32   // of rotated queries and keys, 1 but with YaRN and LongRoPE
	Rope          Rope      // what Freq and RopeScale follow from
	Scale         float32   // of attention scores
	AttnCap       float32   // bound of attention scores, 0: none
	LogitCap      float32   // bound of logits, 0: none
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
	Act2    *string  `json:"hidden_activation"` // Gemma's spelling
	RMSEps  *float64 `json:"rms_norm_eps"`

	Theta       *float64     `json:"rope_theta"`
	Scaling     *ropeScaling `json:"rope_scaling"`
	RopeParams  *ropeScaling `json:"rope_parameters"`
	PartialRope *float64     `json:"partial_rotary_factor"`
	Original    *float64     `json:"original_max_position_embeddings"` // Phi-3's place for it

	Window     window    `json:"sliding_window"`
	UseWindow  *bool     `json:"use_sliding_window"`
	MaxWindow  *int      `json:"max_window_layers"`
	Pattern    *int      `json:"sliding_window_pattern"`
	LayerTypes *[]string `json:"layer_types"`

	QueryScalar   *float64 `json:"query_pre_attn_scalar"`
	AttnCap       softcap  `json:"attn_logit_softcapping"`
	LogitCap      softcap  `json:"final_logit_softcapping"`
	Bidirectional *bool    `json:"use_bidirectional_attention"`

	NEmbd   *int     `json:"n_embd"`
	NLayer  *int     `json:"n_layer"`
	NHead   *int     `json:"n_head"`
	NPos    *int     `json:"n_positions"`
	NInner  *int     `json:"n_inner"`
	LNEps   *float64 `json:"layer_norm_epsilon"`
	GPTAct  *string  `json:"activation_function"`
	Scaled  *bool    `json:"scale_attn_weights"`
	ByLayer *bool    `json:"scale_attn_by_inverse_layer_idx"`
	Cross   *bool    `json:"add_cross_attention"`

	Tied         *bool           `json:"tie_word_embeddings"`
	BOS          tokenIDs        `json:"bos_token_id"`
	EOS          tokenIDs        `json:"eos_token_id"`
	LocalExperts *int            `json:"num_local_experts"`
	Experts      *int            `json:"num_experts"`
	Routed       *int            `json:"n_routed_experts"`
	Vision       json.RawMessage `json:"vision_config"`
	TwoParts     *bool           `json:"is_encoder_decoder"`
	Quantization json.RawMessage `json:"quantization_config"`
}

// optional tells null, which is none, from an absent key, for which an architecture may have a default.
type optional[T any] struct {
	there bool
	value *T
}

func (o *optional[T]) UnmarshalJSON(b []byte) error {
	o.there = true
	return json.Unmarshal(b, &o.value)
}

type (
	window  = optional[int]
	softcap = optional[float64]
)

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
