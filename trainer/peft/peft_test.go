package peft_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
)

func openTiny(t *testing.T, s tiny.Shape) *model.Model {
	t.Helper()
	dir := t.TempDir()
	if err := tiny.Write(dir, s, 3); err != nil {
		t.Fatal(err)
	}
	m, err := model.Open(safetensors.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func start(t *testing.T, l peft.Adapter, p *autograd.Param) []float32 {
	t.Helper()
	v := make([]float32, p.Len())
	if err := l.Read(p, v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestInit(t *testing.T) {
	m := openTiny(t, tiny.Shape{})
	open := func(seed uint64) peft.Adapter {
		l, err := peft.New(m, peft.Config{R: 8, Alpha: 16, All: true}, seed)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	a, b, other := open(1), open(1), open(2)
	seen := map[float32]bool{}
	for i, p := range a.Weights() {
		v := start(t, a, p)
		if !slices.Equal(v, start(t, b, b.Weights()[i])) {
			t.Errorf("%s differs for one seed", p.Name)
		}
		if strings.Contains(p.Name, "lora_B") {
			if slices.Max(v) != 0 || slices.Min(v) != 0 {
				t.Errorf("%s does not start at zero", p.Name)
			}
			continue
		}
		bound := 1 / math.Sqrt(float64(p.Cols))
		lo, hi := float64(slices.Min(v)), float64(slices.Max(v))
		if lo < -bound || hi > bound || lo > -0.9*bound || hi < 0.9*bound {
			t.Errorf("%s lies in [%v, %v], want all of ±%v", p.Name, lo, hi, bound)
		}
		if seen[v[0]] || slices.Equal(v, start(t, other, other.Weights()[i])) {
			t.Errorf("%s is not drawn by itself", p.Name)
		}
		seen[v[0]] = true
	}
}

func TestNewRefuses(t *testing.T) {
	m := openTiny(t, tiny.Shape{})
	for _, c := range []peft.Config{
		{R: 0, Alpha: 1}, {R: -1, Alpha: 1}, {R: 1 << 20, Alpha: 1}, {R: 1, Alpha: math.NaN()}, {R: 1, Alpha: math.Inf(1)},
		{R: 1, Alpha: 1, Dropout: 1}, {R: 1, Alpha: 1, Dropout: -0.1}, {R: 1, Alpha: 1, Dropout: math.NaN()},
		{R: 1, Alpha: 1, Targets: []string{"q_proj", "c_attn"}}, {R: 1, Alpha: 1, Targets: []string{"lm_head"}}, {R: 1, Alpha: 1, Targets: []string{""}},
	} {
		if _, err := peft.New(m, c, 0); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// files is a PEFT directory in memory.
type files map[string][]byte

func (m files) Open(path string) (io.ReaderAt, int64, error) {
	b, ok := m[path]
	if !ok {
		return nil, 0, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return bytes.NewReader(b), int64(len(b)), nil
}

const plainConfig = `{"peft_type":"LORA","r":2,"lora_alpha":4,"target_modules":["q_proj"],"bias":"none"}`

func adapter(t testing.TB, config string, names ...string) files {
	t.Helper()
	var ts []safetensors.Tensor
	for _, n := range names {
		shape := []int{2, 32}
		if strings.Contains(n, "lora_B") {
			shape = []int{32, 2}
		}
		ts = append(ts, safetensors.Tensor{Name: n, DType: safetensors.F32, Shape: shape})
	}
	var b bytes.Buffer
	w, err := safetensors.NewWriter(&b, ts, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range ts {
		if err := w.WriteF32(x.Name, make([]float32, 64)); err != nil {
			t.Fatal(err)
		}
	}
	return files{peft.ConfigFile: []byte(config), peft.WeightsFile: b.Bytes()}
}

func names(layer int) []string {
	path := fmt.Sprintf("base_model.model.model.layers.%d.self_attn.q_proj.lora_", layer)
	return []string{path + "A.weight", path + "B.weight"}
}

func TestOpenRefuses(t *testing.T) {
	m := openTiny(t, tiny.Shape{})
	all := append(names(0), names(1)...)
	l, err := peft.Open(m, adapter(t, plainConfig, all...), 0)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, tc := range []struct {
		name, config, want string
		names              []string
	}{
		{"a layer is missing", plainConfig, "holds no", names(0)},
		{"a layer too many", plainConfig, "belongs to no layer", append(names(2), all...)},
		{"another rank", strings.Replace(plainConfig, `"r":2`, `"r":3`, 1), "has shape", all},
		{"dora", strings.Replace(plainConfig, `"r":2`, `"r":2,"use_dora":true`, 1), "lora_magnitude_vector", all},
		{"ia3", `{"peft_type":"IA3"}`, "ia3_l", all},
		{"another method", `{"peft_type":"LOHA"}`, "peft_type", all},
		{"bias", `{"peft_type":"LORA","bias":"all"}`, "bias", all},
		{"saved modules", strings.Replace(plainConfig, `"r":2`, `"r":2,"modules_to_save":["lm_head"]`, 1), "lm_head.weight", all},
		{"ranks by layer", `{"peft_type":"LORA","rank_pattern":{"q_proj":4}}`, "rank_pattern", all},
		{"some layers", `{"peft_type":"LORA","layers_to_transform":[0]}`, "layers_to_transform", all},
		{"a pattern", `{"peft_type":"LORA","target_modules":".*q_proj"}`, "no linear layer", all},
		{"no json", `{`, "adapter_config.json", all},
	} {
		if _, err := peft.Open(m, adapter(t, tc.config, tc.names...), 0); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
	}
}

// FuzzConfig: whatever the text, there is an error or a config that New judges without harm.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(plainConfig))
	f.Add([]byte(`{"peft_type":"LORA","target_modules":"all-linear","r":1000000000,"lora_dropout":1e308}`))
	f.Add([]byte(`{"peft_type":"LORA","r":null,"lora_alpha":null}`))
	f.Add([]byte(`{"peft_type":"LORA","target_modules":[["q"]]}`))
	f.Add([]byte(`{"peft_type":"LORA","use_dora":true,"modules_to_save":["lm_head","",".","norm"]}`))
	f.Add([]byte(`{"peft_type":"IA3","target_modules":["k_proj","down_proj"],"feedforward_modules":[]}`))
	f.Add([]byte(`{"peft_type":"SHOAL_BOTTLENECK","reduction":1e-308,"sites":["mlp","mlp"],"act":"relu"}`))
	f.Add([]byte(`{"peft_type":"PREFIX_TUNING","num_virtual_tokens":9223372036854775807,"prefix_projection":true}`))
	f.Add([]byte(`{"peft_type":"PROMPT_TUNING","num_virtual_tokens":-1,"token_dim":1}`))
	dir := f.TempDir()
	if err := tiny.Write(dir, tiny.Shape{}, 3); err != nil {
		f.Fatal(err)
	}
	m, err := model.Open(safetensors.Dir(dir))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { m.Close() })
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := peft.ParseConfig(text)
		if err != nil {
			return
		}
		if l, err := peft.New(m, c, 0); err == nil && len(l.Weights()) == 0 {
			t.Fatalf("%+v", c)
		}
	})
}
