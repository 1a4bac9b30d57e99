// Package tiny makes small models from nothing: a Hugging Face directory with a config, random weights and a tokenizer
// whose tokens are bytes. Tests and demonstrations start from them.
//
// All functions are pure but for the files that they write; the same arguments write the same bytes everywhere.
package tiny

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// Shape is what a model looks like. Zero fields take the values of Default.
type Shape struct {
	Type           string // llama, mistral, qwen2, qwen3, gemma2, phi3 or gpt2
	Hidden, Inner  int
	Layers         int
	Heads, KVHeads int
	Vocab          int // at least Bytes
	Context        int // longest sequence
	Window         int // of mistral, gemma2 and phi3
	Tied           bool
	Std            float64           // of the weights; norms start at 1, biases at 0
	DType          safetensors.DType // of the file
	Scatter        bool              // norms and biases are drawn too, so that tests see them act
}

// Bytes is how many tokens the tokenizer has: <pad>, <s>, </s> and a token for each byte.
const Bytes = 3 + 256

// Default fills what is zero: about 60,000 weights.
func Default(s Shape) Shape {
	or(&s.Type, "llama")
	or(&s.Hidden, 32)
	or(&s.Inner, 2*s.Hidden)
	or(&s.Layers, 2)
	or(&s.Heads, 4)
	or(&s.KVHeads, s.Heads)
	or(&s.Vocab, Bytes)
	or(&s.Context, 256)
	or(&s.Std, 0.02)
	or(&s.DType, safetensors.F32)
	return s
}

func or[T comparable](v *T, otherwise T) {
	if *v == *new(T) {
		*v = otherwise
	}
}

// Write makes the directory.
func Write(dir string, s Shape, seed uint64) error {
	s = Default(s)
	for name, content := range map[string]any{
		model.ConfigFile: s.config(), "generation_config.json": map[string]any{"bos_token_id": 1, "eos_token_id": 2},
		"tokenizer.json": tokenizer(), "tokenizer_config.json": tokenizerConfig(),
	} {
		text, err := json.MarshalIndent(content, "", " ")
		if err != nil {
			return err
		}
		if err := writeText(filepath.Join(dir, name), text); err != nil {
			return err
		}
	}
	return model.WriteFile(filepath.Join(dir, safetensors.SingleFile), func(w io.Writer) error { return s.weights(w, seed) })
}

func writeText(path string, text []byte) error {
	return model.WriteFile(path, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

func (s Shape) config() map[string]any {
	c := map[string]any{"model_type": s.Type, "vocab_size": s.Vocab, "tie_word_embeddings": s.Tied, "bos_token_id": 1,
		"eos_token_id": 2, "torch_dtype": map[safetensors.DType]string{safetensors.F32: "float32", safetensors.BF16: "bfloat16",
			safetensors.F16: "float16"}[s.DType]}
	if s.Type == "gpt2" {
		c["architectures"] = []string{"GPT2LMHeadModel"}
		c["n_embd"], c["n_inner"], c["n_layer"], c["n_head"], c["n_positions"] = s.Hidden, s.Inner, s.Layers, s.Heads, s.Context
		c["layer_norm_epsilon"], c["activation_function"] = 1e-5, "gelu_new"
		return c
	}
	c["architectures"] = []string{strings.ToUpper(s.Type[:1]) + s.Type[1:] + "ForCausalLM"} // as the releases spell it
	c["hidden_size"], c["intermediate_size"], c["num_hidden_layers"] = s.Hidden, s.Inner, s.Layers
	c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"] = s.Heads, s.KVHeads, s.Hidden/s.Heads
	c["max_position_embeddings"], c["rms_norm_eps"], c["rope_theta"], c["hidden_act"] = s.Context, 1e-5, 10000.0, "silu"
	if s.Window > 0 {
		c["sliding_window"] = s.Window
	}
	if s.Type == "gemma2" {
		c["hidden_activation"], c["query_pre_attn_scalar"] = "gelu_pytorch_tanh", s.Hidden/s.Heads
	}
	return c
}

// weights writes the tensors, each drawn from its own name.
func (s Shape) weights(w io.Writer, seed uint64) error {
	ts := s.tensors()
	out, err := safetensors.NewWriter(w, ts, nil)
	if err != nil {
		return err
	}
	for _, t := range ts {
		if err := out.WriteF32(t.Name, s.draw(t, seed)); err != nil {
			return err
		}
	}
	return out.Close()
}

func (s Shape) tensors() []safetensors.Tensor {
	l := list{dtype: s.DType}
	if s.Type == "gpt2" {
		s.gpt2(&l)
	} else {
		s.llama(&l)
	}
	if !s.Tied {
		l.add("lm_head.weight", s.Vocab, s.Hidden)
	}
	return l.ts
}

type list struct {
	dtype safetensors.DType
	ts    []safetensors.Tensor
}

func (l *list) add(name string, shape ...int) {
	l.ts = append(l.ts, safetensors.Tensor{Name: name, DType: l.dtype, Shape: shape})
}

// llama lists the weights of Llama and its relatives.
func (s Shape) llama(l *list) {
	head := s.Hidden / s.Heads
	narrow := head * s.KVHeads
	l.add("model.embed_tokens.weight", s.Vocab, s.Hidden)
	for i := range s.Layers {
		path := fmt.Sprintf("model.layers.%d.", i)
		l.add(path+"input_layernorm.weight", s.Hidden)
		if s.Type == "phi3" {
			l.add(path+"self_attn.qkv_proj.weight", s.Hidden+2*narrow, s.Hidden)
			l.add(path+"mlp.gate_up_proj.weight", 2*s.Inner, s.Hidden)
		} else {
			l.add(path+"self_attn.q_proj.weight", s.Hidden, s.Hidden)
			l.add(path+"self_attn.k_proj.weight", narrow, s.Hidden)
			l.add(path+"self_attn.v_proj.weight", narrow, s.Hidden)
			l.add(path+"mlp.gate_proj.weight", s.Inner, s.Hidden)
			l.add(path+"mlp.up_proj.weight", s.Inner, s.Hidden)
		}
		l.add(path+"self_attn.o_proj.weight", s.Hidden, s.Hidden)
		l.add(path+"post_attention_layernorm.weight", s.Hidden)
		l.add(path+"mlp.down_proj.weight", s.Hidden, s.Inner)
		switch s.Type {
		case "qwen2":
			l.add(path+"self_attn.q_proj.bias", s.Hidden)
			l.add(path+"self_attn.k_proj.bias", narrow)
			l.add(path+"self_attn.v_proj.bias", narrow)
		case "qwen3":
			l.add(path+"self_attn.q_norm.weight", head)
			l.add(path+"self_attn.k_norm.weight", head)
		case "gemma2":
			l.add(path+"pre_feedforward_layernorm.weight", s.Hidden)
			l.add(path+"post_feedforward_layernorm.weight", s.Hidden)
		}
	}
	l.add("model.norm.weight", s.Hidden)
}

func (s Shape) gpt2(l *list) {
	l.add("transformer.wte.weight", s.Vocab, s.Hidden)
	l.add("transformer.wpe.weight", s.Context, s.Hidden)
	pair := func(path string, shape ...int) {
		l.add(path+".weight", shape...)
		l.add(path+".bias", shape[len(shape)-1])
	}
	for i := range s.Layers {
		path := fmt.Sprintf("transformer.h.%d.", i)
		pair(path+"ln_1", s.Hidden)
		pair(path+"attn.c_attn", s.Hidden, 3*s.Hidden)
		pair(path+"attn.c_proj", s.Hidden, s.Hidden)
		pair(path+"ln_2", s.Hidden)
		pair(path+"mlp.c_fc", s.Hidden, s.Inner)
		pair(path+"mlp.c_proj", s.Inner, s.Hidden)
	}
	pair("transformer.ln_f", s.Hidden)
}

// draw gives normal numbers by Box and Muller over ChaCha8 keyed by seed and name.
func (s Shape) draw(t safetensors.Tensor, seed uint64) []float32 {
	v := make([]float32, t.Elems())
	base, std := 0.0, s.Std
	if len(t.Shape) == 1 {
		if std = 0; s.Scatter {
			std = s.Std
		}
		if !strings.HasSuffix(t.Name, ".bias") && s.Type != "gemma2" { // which stores norms less 1
			base = 1
		}
	}
	src := rand.NewChaCha8(sha256.Sum256(binary.LittleEndian.AppendUint64([]byte("shoal tiny "+t.Name+" "), seed)))
	for i := range v {
		u1, u2 := (float64(src.Uint64()>>11)+1)/(1<<53), float64(src.Uint64()>>11)/(1<<53)
		v[i] = float32(base + std*math.Sqrt(-2*math.Log(u1))*math.Cos(2*math.Pi*u2))
	}
	return v
}
