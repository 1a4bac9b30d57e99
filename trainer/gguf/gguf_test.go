package gguf_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	parser "github.com/gpustack/gguf-parser-go"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/gguf"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// written is a file as the independent reader sees it, and its bytes.
type written struct {
	*parser.GGUFFile
	text []byte
}

func source(t *testing.T, dir string, s model.Surgery) gguf.Source {
	t.Helper()
	m, err := model.OpenWith(safetensors.Dir(dir), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return gguf.Source{Name: "a model", Model: m, Files: safetensors.Dir(dir), Value: func(p *autograd.Param) ([]float32, error) {
		v := make([]float32, p.Len())
		return v, m.Read(p, v)
	}}
}

func write(t *testing.T, s gguf.Source, typ gguf.Type) written {
	t.Helper()
	var b bytes.Buffer
	if err := gguf.Write(&b, s, typ); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := parser.ParseGGUFFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return written{f, b.Bytes()}
}

func tinyDir(t *testing.T, s tiny.Shape) string {
	t.Helper()
	dir := t.TempDir()
	s.Std, s.Scatter = 0.3, true
	if err := tiny.Write(dir, s, 5); err != nil {
		t.Fatal(err)
	}
	return dir
}

// edit changes keys of a model's config.json.
func edit(t *testing.T, dir string, keys map[string]any) string {
	t.Helper()
	c := map[string]any{}
	modeltest.JSON(t, filepath.Join(dir, model.ConfigFile), &c)
	maps.Copy(c, keys)
	text, err := json.Marshal(c)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, model.ConfigFile), text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestTensors: an independent reader finds every weight under llama.cpp's name, with the values that its type can hold.
func TestTensors(t *testing.T) {
	for _, shape := range []tiny.Shape{
		{KVHeads: 2}, {Type: "mistral", Tied: true, KVHeads: 1, Layers: 1, DType: safetensors.BF16}, {Type: "qwen2", KVHeads: 2, DType: safetensors.F16},
		{Hidden: 24, Heads: 3, Inner: 40, Layers: 1}, // no whole blocks
	} {
		dir := tinyDir(t, shape)
		for _, typ := range []gguf.Type{gguf.None, gguf.F32, gguf.F16, gguf.BF16, gguf.Q8_0} {
			t.Run(fmt.Sprintf("%s %s %s", shape.Type, shape.DType, typ), func(t *testing.T) {
				s := source(t, dir, model.Surgery{})
				f := write(t, s, typ)
				if int(f.Header.TensorCount) != len(s.Model.Params) {
					t.Errorf("%d tensors, the model has %d", f.Header.TensorCount, len(s.Model.Params))
				}
				for _, p := range s.Model.Params {
					checkTensor(t, f, s, p, typ)
				}
			})
		}
	}
}

func checkTensor(t *testing.T, f written, s gguf.Source, p *autograd.Param, typ gguf.Type) {
	t.Helper()
	name := theirName(p.Name)
	info, ok := f.TensorInfos.Get(name)
	if !ok {
		t.Errorf("%s is not there as %s", p.Name, name)
		return
	}
	v, err := s.Value(p)
	if err != nil {
		t.Fatal(err)
	}
	dims := []uint64{uint64(p.Cols)}
	if len(p.Shape) == 2 {
		dims = append(dims, uint64(p.Rows))
	}
	want := expectedType(typ, s.Model.Stored(p))
	if !slices.Equal(info.Dimensions, dims) || info.Type != want || info.Offset%32 != 0 {
		t.Errorf("%s: %v of %v at %d, want %v of %v", name, info.Type, info.Dimensions, info.Offset, want, dims)
		return
	}
	if strings.HasPrefix(p.Name, "model.layers") && s.Model.Config.Type != "qwen2" {
		switch c := s.Model.Config; {
		case strings.Contains(p.Name, "q_proj"):
			v = theirOrder(v, c.Heads)
		case strings.Contains(p.Name, "k_proj"):
			v = theirOrder(v, c.KVHeads)
		}
	}
	got := decode(t, f.text[f.TensorDataStartOffset+int64(info.Offset):], info.Type, len(v))
	for i, x := range rounded(v, info.Type) {
		if math.Float32bits(got[i]) != math.Float32bits(x) && !(got[i] == 0 && x == 0) {
			t.Errorf("%s[%d] is %v, want %v (of %v)", name, i, got[i], x, v[i])
			return
		}
	}
}

// theirName spells out the names that llama.cpp asks for.
func theirName(name string) string {
	var layer int
	var rest string
	if n, _ := fmt.Sscanf(name, "model.layers.%d.%s", &layer, &rest); n != 2 {
		return map[string]string{"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
			"lm_head.weight": "output.weight"}[name]
	}
	module, kind := rest[:strings.LastIndexByte(rest, '.')], rest[strings.LastIndexByte(rest, '.'):]
	return fmt.Sprintf("blk.%d.%s%s", layer, map[string]string{"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
		"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
		"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}[module], kind)
}

// theirOrder is reshape(heads, 2, d/2, cols), axes 1 and 2 exchanged.
func theirOrder(v []float32, heads int) []float32 {
	out := make([]float32, 0, len(v))
	cols := 0
	for h := range heads {
		head := v[h*len(v)/heads : (h+1)*len(v)/heads]
		d := 8 // of every shape here
		cols = len(head) / d
		for i := range d / 2 {
			for half := range 2 {
				row := half*d/2 + i
				out = append(out, head[row*cols:(row+1)*cols]...)
			}
		}
	}
	return out
}

func expectedType(typ gguf.Type, stored safetensors.Tensor) parser.GGMLType {
	switch {
	case len(stored.Shape) == 1:
		return parser.GGMLTypeF32
	case typ == gguf.None:
		return map[safetensors.DType]parser.GGMLType{safetensors.F32: parser.GGMLTypeF32, safetensors.F16: parser.GGMLTypeF16,
			safetensors.BF16: parser.GGMLTypeBF16}[stored.DType]
	case typ == gguf.Q8_0 && stored.Shape[1]%32 != 0:
		return parser.GGMLTypeF16
	}
	return map[gguf.Type]parser.GGMLType{gguf.F32: parser.GGMLTypeF32, gguf.F16: parser.GGMLTypeF16, gguf.BF16: parser.GGMLTypeBF16,
		gguf.Q8_0: parser.GGMLTypeQ8_0}[typ]
}

// decode turns stored bytes into values as ggml does.
func decode(t *testing.T, b []byte, typ parser.GGMLType, n int) []float32 {
	t.Helper()
	v := make([]float32, n)
	for i := range v {
		switch typ {
		case parser.GGMLTypeF32:
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		case parser.GGMLTypeF16:
			v[i] = half(binary.LittleEndian.Uint16(b[2*i:]))
		case parser.GGMLTypeBF16:
			v[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16)
		case parser.GGMLTypeQ8_0:
			block := b[i/32*34:]
			v[i] = half(binary.LittleEndian.Uint16(block)) * float32(int8(block[2+i%32]))
		default:
			t.Fatalf("type %v", typ)
		}
	}
	return v
}

// half is a binary16 number by its definition.
func half(h uint16) float32 {
	sign, exp, frac := 1-2*float64(h>>15), int(h>>10&31), float64(h&1023)
	if exp == 0 {
		return float32(sign * math.Ldexp(frac, -24))
	}
	return float32(sign * math.Ldexp(1024+frac, exp-25))
}

// rounded is what is left of v in a type: the nearest number of so many bits, or ggml's rule for blocks.
func rounded(v []float32, typ parser.GGMLType) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		switch typ {
		case parser.GGMLTypeF32:
			out[i] = x
		case parser.GGMLTypeF16:
			out[i] = nearest(x, 11, -24)
		case parser.GGMLTypeBF16:
			out[i] = nearest(x, 8, -133)
		case parser.GGMLTypeQ8_0:
			top := float32(0)
			for _, y := range v[i/32*32 : i/32*32+32] {
				top = max(top, max(y, -y))
			}
			d := top / 127
			if d != 0 {
				q := x * (1 / d)
				out[i] = nearest(d, 11, -24) * float32(math.Trunc(float64(q)+math.Copysign(0.5, float64(q))))
			}
		}
	}
	return out
}

// nearest rounds to so many significant bits, and to no finer step than 2^least; halves to even.
func nearest(x float32, bits, least int) float32 {
	if x == 0 {
		return 0
	}
	_, exp := math.Frexp(float64(x))
	step := max(exp-bits, least)
	return float32(math.Ldexp(math.RoundToEven(math.Ldexp(float64(x), -step)), step))
}

func (f written) text1(key string) string {
	kv, _ := f.Header.MetadataKV.Get(key)
	s, _ := kv.Value.(string)
	return s
}

func (f written) number(key string) float64 {
	kv, ok := f.Header.MetadataKV.Get(key)
	if !ok {
		return math.NaN()
	}
	switch v := kv.Value.(type) {
	case uint32:
		return float64(v)
	case float32:
		return float64(v)
	case bool:
		return map[bool]float64{true: 1}[v]
	}
	return math.NaN()
}

// TestMetadata: the keys that llama.cpp needs, with the types that it asks for.
func TestMetadata(t *testing.T) {
	dir := edit(t, tinyDir(t, tiny.Shape{Type: "mistral", KVHeads: 2, Window: 100}), map[string]any{"rope_theta": 1e6,
		"rope_scaling": map[string]any{"type": "linear", "factor": 4}})
	f := write(t, source(t, dir, model.Surgery{}), gguf.Q8_0)
	for key, want := range map[string]float64{
		"general.file_type": 7, "general.quantization_version": 2, "llama.block_count": 2, "llama.context_length": 100,
		"llama.embedding_length": 32, "llama.feed_forward_length": 64, "llama.vocab_size": tiny.Bytes, "llama.attention.head_count": 4,
		"llama.attention.head_count_kv": 2, "llama.attention.layer_norm_rms_epsilon": float64(float32(1e-5)), "llama.rope.freq_base": 1e6,
		"llama.rope.dimension_count": 8, "llama.rope.scaling.factor": 4, "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
		"tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.add_bos_token": 1, "tokenizer.ggml.add_eos_token": 0,
	} {
		if got := f.number(key); got != want {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	for key, want := range map[string]string{"general.architecture": "llama", "general.name": "a model", "general.type": "model",
		"llama.rope.scaling.type": "linear", "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2"} {
		if got := f.text1(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	a := f.Architecture()
	if a.Architecture != "llama" || a.BlockCount != 2 || a.AttentionHeadCountKV != 2 || a.EmbeddingLength != 32 || f.Tokenizer().TokensLength != tiny.Bytes {
		t.Errorf("the reader understands %+v", a)
	}
}

// TestRotations: llama 3.1's scaling becomes a tensor of divisors, YaRN's keys, and what has no form is refused.
func TestRotations(t *testing.T) {
	dir := tinyDir(t, tiny.Shape{})
	edit(t, dir, map[string]any{"rope_scaling": map[string]any{"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
		"high_freq_factor": 4, "original_max_position_embeddings": 64}})
	s := source(t, dir, model.Surgery{})
	f := write(t, s, gguf.F32)
	info, ok := f.TensorInfos.Get("rope_freqs.weight")
	if !ok {
		t.Fatal("no rope_freqs")
	}
	for i, x := range decode(t, f.text[f.TensorDataStartOffset+int64(info.Offset):], info.Type, 4) {
		plain := math.Pow(10000, -float64(i)/4)
		if got := plain / float64(x); math.Abs(got/float64(s.Model.Config.Freq[i])-1) > 1e-6 {
			t.Errorf("pair %d turns by %v, want %v", i, got, s.Model.Config.Freq[i])
		}
	}
	edit(t, dir, map[string]any{"rope_scaling": map[string]any{"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 64}})
	f = write(t, source(t, dir, model.Surgery{}), gguf.F32)
	if f.text1("llama.rope.scaling.type") != "yarn" || f.number("llama.rope.scaling.original_context_length") != 64 {
		t.Error("no YaRN")
	}
	edit(t, dir, map[string]any{"rope_scaling": map[string]any{"rope_type": "yarn", "factor": 4, "attention_factor": 1.5}})
	refused(t, dir, "rotation")
}

func refused(t *testing.T, dir, why string) {
	t.Helper()
	if err := gguf.Write(&bytes.Buffer{}, source(t, dir, model.Surgery{}), gguf.F16); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("error %v, want %q", err, why)
	}
}

func TestRefuses(t *testing.T) {
	for _, kind := range []string{"gpt2", "gemma2", "qwen3", "phi3"} {
		refused(t, tinyDir(t, tiny.Shape{Type: kind, Tied: true}), "not "+kind)
	}
	dir := tinyDir(t, tiny.Shape{})
	if err := os.Remove(filepath.Join(dir, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, "tokenizer")
	if _, err := gguf.ParseType("q4_k_m"); err == nil || !strings.Contains(err.Error(), "q8_0") {
		t.Error(err)
	}
}

// TestPooled: surgery shows in the file.
func TestPooled(t *testing.T) {
	s := source(t, tinyDir(t, tiny.Shape{}), model.Surgery{KVHeads: 2})
	f := write(t, s, gguf.F32)
	if f.number("llama.attention.head_count_kv") != 2 {
		t.Error("not pooled")
	}
	for _, p := range s.Model.Params {
		checkTensor(t, f, s, p, gguf.F32)
	}
}
