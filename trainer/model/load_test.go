package model_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// memory is files that lie in no folder, as a block store has them.
type memory map[string][]byte

func (m memory) Open(path string) (io.ReaderAt, int64, error) {
	b, ok := m[path]
	if !ok {
		return nil, 0, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return bytes.NewReader(b), int64(len(b)), nil
}

func load(t *testing.T, s tiny.Shape) memory {
	t.Helper()
	dir, m := t.TempDir(), memory{}
	if err := tiny.Write(dir, s, 3); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{model.ConfigFile, safetensors.SingleFile} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		m[name] = b
	}
	return m
}

// rewrite replaces the weights by what change makes of the list of tensors.
func (m memory) rewrite(t *testing.T, change func([]safetensors.Tensor) []safetensors.Tensor) {
	t.Helper()
	f, err := safetensors.Open(bytes.NewReader(m[safetensors.SingleFile]), int64(len(m[safetensors.SingleFile])))
	if err != nil {
		t.Fatal(err)
	}
	ts := change(slices.Clone(f.Tensors()))
	var b bytes.Buffer
	w, err := safetensors.NewWriter(&b, ts, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range ts {
		if err := w.WriteRaw(x.Name, bytes.NewReader(make([]byte, x.Elems()*x.DType.Size()))); err != nil {
			t.Fatal(err)
		}
	}
	m[safetensors.SingleFile] = b.Bytes()
}

// TestOpenHoldsFilesAgainstConfig: what config.json asks for has to be there, in shape and type, and nothing besides.
func TestOpenHoldsFilesAgainstConfig(t *testing.T) {
	const norm = "model.layers.1.input_layernorm.weight"
	find := func(ts []safetensors.Tensor, name string) *safetensors.Tensor {
		return &ts[slices.IndexFunc(ts, func(x safetensors.Tensor) bool { return x.Name == name })]
	}
	for _, tc := range []struct {
		name   string
		change func([]safetensors.Tensor) []safetensors.Tensor
		want   string // part of the error; empty: none
	}{
		{"untouched", func(ts []safetensors.Tensor) []safetensors.Tensor { return ts }, ""},
		{"missing", func(ts []safetensors.Tensor) []safetensors.Tensor {
			return slices.DeleteFunc(ts, func(x safetensors.Tensor) bool { return x.Name == norm })
		}, "hold no " + norm},
		{"other shape", func(ts []safetensors.Tensor) []safetensors.Tensor { find(ts, norm).Shape = []int{33}; return ts }, "config.json asks for [32]"},
		{"other rank", func(ts []safetensors.Tensor) []safetensors.Tensor { find(ts, norm).Shape = []int{1, 32}; return ts }, "config.json asks for [32]"},
		{"integers", func(ts []safetensors.Tensor) []safetensors.Tensor { find(ts, norm).DType = safetensors.I32; return ts }, "has type"},
		{"unknown tensor", func(ts []safetensors.Tensor) []safetensors.Tensor {
			return append(ts, safetensors.Tensor{Name: "model.layers.2.input_layernorm.weight", DType: safetensors.F32, Shape: []int{32}})
		}, "does not know"},
		{"unknown bias of a norm", func(ts []safetensors.Tensor) []safetensors.Tensor {
			return append(ts, safetensors.Tensor{Name: "model.norm.bias", DType: safetensors.F32, Shape: []int{32}})
		}, "does not know"},
		{"old buffer", func(ts []safetensors.Tensor) []safetensors.Tensor {
			return append(ts, safetensors.Tensor{Name: "model.layers.0.self_attn.rotary_emb.inv_freq", DType: safetensors.F32, Shape: []int{4}})
		}, ""},
		{"a bias that the files have", func(ts []safetensors.Tensor) []safetensors.Tensor {
			return append(ts, safetensors.Tensor{Name: "model.layers.0.mlp.up_proj.bias", DType: safetensors.F32, Shape: []int{64}})
		}, ""},
		{"a bias of another width", func(ts []safetensors.Tensor) []safetensors.Tensor {
			return append(ts, safetensors.Tensor{Name: "model.layers.0.mlp.up_proj.bias", DType: safetensors.F32, Shape: []int{65}})
		}, "config.json asks for [64]"},
	} {
		files := load(t, tiny.Shape{})
		files.rewrite(t, tc.change)
		m, err := model.Open(files)
		switch {
		case err == nil && tc.want == "":
			m.Close()
		case err == nil || tc.want == "" || !strings.Contains(err.Error(), tc.want):
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
	}
}

// TestTiedHeadMayBeRepeated: some files of tied models carry the table twice.
func TestTiedHeadMayBeRepeated(t *testing.T) {
	files := load(t, tiny.Shape{Tied: true})
	files.rewrite(t, func(ts []safetensors.Tensor) []safetensors.Tensor {
		return append(ts, safetensors.Tensor{Name: "lm_head.weight", DType: safetensors.F32, Shape: []int{tiny.Bytes, 32}})
	})
	m, err := model.Open(files)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.Units() != 5 || m.Params[len(m.Params)-1].Unit != 4 || !m.Params[len(m.Params)-1].Tied {
		t.Errorf("%d units, last parameter %+v", m.Units(), m.Params[len(m.Params)-1])
	}
}

// TestGPT2WithoutPrefix: the same model under the names of older files, with the buffers that they carry.
func TestGPT2WithoutPrefix(t *testing.T) {
	files := load(t, tiny.Shape{Type: "gpt2", Tied: true})
	files.rewrite(t, func(ts []safetensors.Tensor) []safetensors.Tensor {
		for i := range ts {
			ts[i].Name = strings.TrimPrefix(ts[i].Name, "transformer.")
		}
		return append(ts, safetensors.Tensor{Name: "h.0.attn.bias", DType: safetensors.F32, Shape: []int{1, 1, 4, 4}})
	})
	m, err := model.Open(files)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p := m.Params[0]
	if p.Name != "transformer.wpe.weight" || m.Stored(p).Name != "wpe.weight" {
		t.Errorf("%s is stored as %s", p.Name, m.Stored(p).Name)
	}
	if err := m.Read(p, make([]float32, p.Len())); err != nil {
		t.Error(err)
	}
}

// TestGenerationConfig: its end tokens win, and nonsense in it is an error.
func TestGenerationConfig(t *testing.T) {
	for text, want := range map[string][]int{`{"eos_token_id":[7,9]}`: {7, 9}, `{"eos_token_id":null}`: {2}, `{}`: {2}, `[`: nil, `{"eos_token_id":"x"}`: nil} {
		files := load(t, tiny.Shape{})
		files["generation_config.json"] = []byte(text)
		c, err := model.ReadConfig(files)
		if (err != nil) != (want == nil) || err == nil && !slices.Equal(c.EOS, want) {
			t.Errorf("%s: %+v, %v, want %v", text, c, err, want)
		}
	}
}

func TestCheckSequence(t *testing.T) {
	m, err := model.Open(load(t, tiny.Shape{Context: 4}))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, tc := range []struct {
		name string
		q    model.Sequence
		ok   bool
	}{
		{"fits", model.Sequence{IDs: []int32{0, 1, 2, 258}, Target: []int32{-1, 0, 258, 3}}, true},
		{"empty", model.Sequence{}, false},
		{"too long", model.Sequence{IDs: make([]int32, 5)}, false},
		{"too long with its past", model.Sequence{IDs: make([]int32, 2), Past: 3}, false},
		{"beyond the vocabulary", model.Sequence{IDs: []int32{259}}, false},
		{"negative", model.Sequence{IDs: []int32{-1}}, false},
		{"target beyond the vocabulary", model.Sequence{IDs: []int32{1}, Target: []int32{259}}, false},
		{"negative target", model.Sequence{IDs: []int32{1}, Target: []int32{-100}}, false},
		{"fewer targets", model.Sequence{IDs: []int32{1, 2}, Target: []int32{1}}, false},
	} {
		if err := m.Check(tc.q); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// FuzzOpen: whatever the two files hold, there is an error or a model.
func FuzzOpen(f *testing.F) {
	weights := func(ts ...safetensors.Tensor) []byte {
		var b bytes.Buffer
		w, err := safetensors.NewWriter(&b, ts, nil)
		if err != nil {
			f.Fatal(err)
		}
		for _, x := range ts {
			w.WriteF32(x.Name, make([]float32, x.Elems()))
		}
		return b.Bytes()
	}
	config := []byte(`{"model_type":"gpt2","n_embd":2,"n_layer":1,"n_head":1,"n_positions":2,"vocab_size":2}`)
	f.Add(config, weights(safetensors.Tensor{Name: "wte.weight", DType: safetensors.F32, Shape: []int{2, 2}}))
	f.Add([]byte(`{"model_type":"llama","num_hidden_layers":4096,"hidden_size":1,"num_attention_heads":1,"intermediate_size":1,"vocab_size":1}`), weights())
	f.Fuzz(func(t *testing.T, config, weights []byte) {
		for heads := range 3 {
			m, err := model.OpenWith(memory{model.ConfigFile: config, safetensors.SingleFile: weights}, model.Surgery{KVHeads: heads})
			if err == nil {
				m.Close()
			}
		}
	})
}
