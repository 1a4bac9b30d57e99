package model_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// hollow is a weight file whose values are zeros that lie nowhere: header, then size bytes in all.
type hollow struct {
	head []byte
	size int64
}

func (h hollow) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(h.head)) {
		copy(p, h.head[off:])
	}
	if left := h.size - off; int64(len(p)) > left {
		return int(max(left, 0)), io.EOF
	}
	return len(p), nil
}

type released struct {
	config  []byte
	weights hollow
}

func (r released) Open(path string) (io.ReaderAt, int64, error) {
	switch path {
	case model.ConfigFile:
		return bytes.NewReader(r.config), int64(len(r.config)), nil
	case safetensors.SingleFile:
		return r.weights, r.weights.size, nil
	}
	return nil, 0, os.ErrNotExist
}

// names are the weights of a block as the releases list them; H hidden, Q and K widths of queries and of keys, F inner.
var names = map[string]string{
	"llama": `input_layernorm.weight H; mlp.down_proj.weight H F; mlp.gate_proj.weight F H; mlp.up_proj.weight F H;
		post_attention_layernorm.weight H; self_attn.k_proj.weight K H; self_attn.o_proj.weight H Q; self_attn.q_proj.weight Q H; self_attn.v_proj.weight K H`,
	"qwen2":  "self_attn.q_proj.bias Q; self_attn.k_proj.bias K; self_attn.v_proj.bias K",
	"qwen3":  "self_attn.q_norm.weight D; self_attn.k_norm.weight D",
	"gemma2": "pre_feedforward_layernorm.weight H; post_feedforward_layernorm.weight H",
	"phi3": `input_layernorm.weight H; mlp.down_proj.weight H F; mlp.gate_up_proj.weight FF H; post_attention_layernorm.weight H;
		self_attn.o_proj.weight H Q; self_attn.qkv_proj.weight QKK H`,
	"gpt2": `ln_1.weight H; ln_1.bias H; attn.c_attn.weight H HHH; attn.c_attn.bias HHH; attn.c_proj.weight H H; attn.c_proj.bias H;
		ln_2.weight H; ln_2.bias H; mlp.c_fc.weight H F; mlp.c_fc.bias F; mlp.c_proj.weight F H; mlp.c_proj.bias H`,
}

func tensorsOf(c *model.Config) (ts []safetensors.Tensor) {
	size := map[rune]int{'H': c.Hidden, 'F': c.Inner, 'Q': c.Heads * c.HeadDim, 'K': c.KVHeads * c.HeadDim, 'D': c.HeadDim}
	add := func(prefix, list string) {
		for entry := range strings.SplitSeq(list, ";") {
			words := strings.Fields(entry)
			t := safetensors.Tensor{Name: prefix + words[0], DType: safetensors.BF16}
			for _, w := range words[1:] {
				n := 0
				for _, r := range w {
					n += size[r]
				}
				t.Shape = append(t.Shape, n)
			}
			ts = append(ts, t)
		}
	}
	size['V'], size['P'] = c.Vocab, c.MaxPos
	if c.Type == "gpt2" {
		add("transformer.", "wte.weight V H; wpe.weight P H; ln_f.weight H; ln_f.bias H")
	} else {
		add("model.", "embed_tokens.weight V H; norm.weight H")
		if !c.Tied {
			add("", "lm_head.weight V H")
		}
	}
	for i := range c.Layers {
		switch path := fmt.Sprintf("model.layers.%d.", i); c.Type {
		case "gpt2":
			add(fmt.Sprintf("transformer.h.%d.", i), names[c.Type])
		case "phi3":
			add(path, names[c.Type])
		default:
			add(path, names["llama"])
			if more := names[c.Type]; c.Type != "llama" && more != "" {
				add(path, more)
			}
		}
	}
	return ts
}

// TestReleasedModels opens models of the sizes that were released, from their own configs, and counts their weights, which
// are known.
func TestReleasedModels(t *testing.T) {
	for name, want := range map[string]struct {
		weights int64
		sliding int // layers with a window
		context int
	}{
		"llama-3.2-1b": {1_235_814_400, 0, 131072}, "smollm2-135m": {134_515_008, 0, 8192}, "mistral-7b-v0.1": {7_241_732_096, 32, 32768},
		"qwen2.5-0.5b": {494_032_768, 0, 32768}, "qwen3-0.6b": {596_049_920, 0, 40960}, "gemma-2-2b": {2_614_341_888, 13, 8192},
		"phi-3-mini-4k": {3_821_079_552, 32, 4096}, "gpt2": {124_439_808, 0, 1024},
	} {
		text, err := os.ReadFile(filepath.Join("testdata", "configs", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := model.ParseConfig(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var head bytes.Buffer
		ts := tensorsOf(c)
		if _, err := safetensors.NewWriter(&head, ts, nil); err != nil {
			t.Fatal(err)
		}
		size := int64(head.Len())
		for _, x := range ts {
			size += 2 * int64(x.Elems())
		}
		m, err := model.Open(released{text, hollow{head.Bytes(), size}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var n int64
		for _, p := range m.Params {
			n += int64(p.Len())
		}
		sliding := 0
		for _, w := range c.Windows {
			if w > 0 {
				sliding++
			}
		}
		if n != want.weights || sliding != want.sliding || c.MaxPos != want.context {
			t.Errorf("%s: %d weights, %d layers with a window, %d tokens; want %+v", name, n, sliding, c.MaxPos, want)
		}
		m.Close()
	}
}
