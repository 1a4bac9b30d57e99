package gguf

import (
	"io"
	"math"
	"strings"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// tensor is one entry of the file.
type tensor struct {
	name  string
	shape []int // as Hugging Face has it
	typ   Type
	param *autograd.Param // nil: values are given
	given []float32
	head  int // rows of a head that change places; 0: rows stay
}

// plan lists the tensors of a model in its own order.
func plan(m *model.Model, t Type) []tensor {
	var ts []tensor
	c := m.Config
	if f := stretched(c); f != nil {
		ts = append(ts, tensor{name: "rope_freqs.weight", shape: []int{len(f)}, typ: F32, given: f})
	}
	for _, p := range m.Params {
		x := tensor{name: rename(p.Name), shape: p.Shape, typ: F32, param: p}
		if len(p.Shape) == 2 {
			x.typ = t.of(p.Cols, m.Stored(p).DType)
		}
		if c.Type != "qwen2" && (strings.Contains(p.Name, ".q_proj.") || strings.Contains(p.Name, ".k_proj.")) {
			x.head = c.HeadDim
		}
		ts = append(ts, x)
	}
	return ts
}

// rename translates the name of a weight.
func rename(name string) string {
	switch rest, ok := strings.CutPrefix(name, "model.layers."); {
	case ok:
		layer, part, _ := strings.Cut(rest, ".")
		return "blk." + layer + "." + parts.Replace(part)
	case name == "model.embed_tokens.weight":
		return "token_embd.weight"
	case name == "model.norm.weight":
		return "output_norm.weight"
	}
	return "output.weight"
}

var parts = strings.NewReplacer("self_attn.q_proj", "attn_q", "self_attn.k_proj", "attn_k", "self_attn.v_proj", "attn_v",
	"self_attn.o_proj", "attn_output", "mlp.gate_proj", "ffn_gate", "mlp.up_proj", "ffn_up", "mlp.down_proj", "ffn_down",
	"input_layernorm", "attn_norm", "post_attention_layernorm", "ffn_norm")

// stretched are the divisors of rotary frequencies that Llama 3.1's scaling comes to: llama.cpp takes them as a tensor.
func stretched(c *model.Config) []float32 {
	if c.Rope.Scaling != "llama3" {
		return nil
	}
	f := make([]float32, len(c.Freq))
	for i, x := range c.Freq {
		f[i] = float32(math.Pow(c.Rope.Theta, -float64(2*i)/float64(c.HeadDim)) / float64(x))
	}
	return f
}

func (t *tensor) elems() int64 {
	n := int64(1)
	for _, d := range t.shape {
		n *= int64(d)
	}
	return n
}

func (t *tensor) bytes() int64 { return t.typ.bytes(t.elems()) }

// write writes the tensor and what fills up to the next. Rows are encoded a few at a time.
func (t *tensor) write(w io.Writer, value func(*autograd.Param) ([]float32, error)) error {
	v, rows := t.given, 1
	if t.param != nil {
		var err error
		if v, err = value(t.param); err != nil {
			return err
		}
		if rows = t.param.Rows; t.head != 0 {
			rows = t.shape[0] // a bias is a column of rows here
		}
	}
	cols := len(v) / rows
	var buf []byte
	for r := range rows {
		from := t.source(r)
		buf = t.typ.append(buf, v[from*cols:(from+1)*cols])
		if len(buf) < 1<<16 && r+1 < rows {
			continue
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
		buf = buf[:0]
	}
	_, err := w.Write(make([]byte, padded(t.bytes())-t.bytes()))
	return err
}

// source is the row that is written as row r. Hugging Face rotates columns i and i+d/2 of a head together, llama.cpp's
// llama 2i and 2i+1.
func (t *tensor) source(r int) int {
	if t.head == 0 {
		return r
	}
	in := r % t.head
	return r - in + in%2*(t.head/2) + in/2
}
