package model

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
)

const llamaConfig = `{"model_type":"llama","hidden_size":32,"intermediate_size":56,"num_hidden_layers":2,"num_attention_heads":4,
"num_key_value_heads":2,"vocab_size":96,"max_position_embeddings":128,"rms_norm_eps":1e-5}`

// with is llamaConfig with keys set (a nil value removes one).
func with(t testing.TB, kv ...any) []byte {
	t.Helper()
	c := map[string]any{}
	if err := json.Unmarshal([]byte(llamaConfig), &c); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(kv); i += 2 {
		if kv[i+1] == nil {
			delete(c, kv[i].(string))
		} else {
			c[kv[i].(string)] = kv[i+1]
		}
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestConfigDefaults(t *testing.T) {
	c, err := ParseConfig([]byte(llamaConfig))
	if err != nil {
		t.Fatal(err)
	}
	if c.HeadDim != 8 || c.KVHeads != 2 || c.Tied || len(c.Freq) != 4 || c.Freq[0] != 1 || !slices.Equal(c.Windows, []int{0, 0}) {
		t.Errorf("%+v", c)
	}
	c, err = ParseConfig([]byte(`{"model_type":"gpt2","n_embd":32,"n_layer":2,"n_head":4,"n_positions":64,"vocab_size":96}`))
	if err != nil || c.Inner != 128 || !c.Tied || c.Freq != nil || c.MaxPos != 64 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestConfigRefuses(t *testing.T) {
	for _, tc := range []struct {
		key string // what the error has to name
		kv  []any
	}{
		{"model_type", []any{"model_type", "mixtral"}},
		{"model_type", []any{"model_type", "qwen3_moe"}},
		{"model_type", []any{"model_type", nil}},
		{"num_experts", []any{"num_local_experts", 8}},
		{"num_experts", []any{"num_experts", 8}},
		{"quantization_config", []any{"quantization_config", map[string]any{"bits": 4}}},
		{"hidden_size", []any{"hidden_size", nil}},
		{"hidden_size", []any{"hidden_size", -1}},
		{"hidden_size", []any{"hidden_size", 1 << 40}},
		{"hidden_size", []any{"hidden_size", "wide"}},
		{"hidden_size", []any{"hidden_size", 32.5}},
		{"num_hidden_layers", []any{"num_hidden_layers", 1 << 30}},
		{"num_attention_heads", []any{"num_attention_heads", 0}},
		{"num_attention_heads", []any{"num_attention_heads", 5}},
		{"num_key_value_heads", []any{"num_key_value_heads", 3}},
		{"head_dim", []any{"head_dim", 7}},
		{"head_dim", []any{"head_dim", 1 << 19}},
		{"hidden_act", []any{"hidden_act", "relu"}},
		{"rms_norm_eps", []any{"rms_norm_eps", -1}},
		{"rope_theta", []any{"rope_theta", 0}},
		{"rope_scaling.rope_type", []any{"rope_scaling", map[string]any{"rope_type": "dynamic", "factor": 4}}},
		{"rope_scaling.factor", []any{"rope_scaling", map[string]any{"rope_type": "yarn"}}},
		{"rope_scaling.beta_fast", []any{"rope_scaling", map[string]any{"rope_type": "yarn", "factor": 4, "beta_fast": 1}}},
		{"rope_scaling.mscale", []any{"rope_scaling", map[string]any{"rope_type": "yarn", "factor": 4, "mscale": -1}}},
		{"original_max_position_embeddings", []any{"model_type", "phi3", "rope_scaling", map[string]any{"type": "longrope"}}},
		{"short_factor", []any{"model_type", "phi3", "original_max_position_embeddings", 64, "rope_scaling", map[string]any{"type": "longrope", "short_factor": []int{1}}}},
		{"short_factor", []any{"model_type", "phi3", "original_max_position_embeddings", 64, "rope_scaling", map[string]any{"type": "su", "short_factor": []int{1, 1, 1, 0}}}},
		{"types of layers", []any{"rope_parameters", map[string]any{"full_attention": map[string]any{"rope_theta": 1e6}, "sliding_attention": map[string]any{}}}},
		{"partial_rotary_factor", []any{"rope_parameters", map[string]any{"partial_rotary_factor": 0.75}}},
		{"hidden_activation", []any{"model_type", "gemma2", "hidden_activation", "relu"}},
		{"query_pre_attn_scalar", []any{"model_type", "gemma2", "query_pre_attn_scalar", 0}},
		{"final_logit_softcapping", []any{"model_type", "gemma2", "final_logit_softcapping", -30}},
		{"use_bidirectional_attention", []any{"model_type", "gemma2", "use_bidirectional_attention", true}},
		{"sliding_window", []any{"model_type", "gemma2", "sliding_window", 0}},
		{"rope_scaling.factor", []any{"rope_scaling", map[string]any{"type": "linear"}}},
		{"rope_scaling.factor", []any{"rope_scaling", map[string]any{"type": "linear", "factor": 0}}},
		{"rope_scaling.low_freq_factor", []any{"rope_scaling", map[string]any{"rope_type": "llama3", "factor": 8}}},
		{"rope_scaling.high_freq_factor", []any{"rope_scaling", map[string]any{"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
			"high_freq_factor": 4, "original_max_position_embeddings": 16}}},
		{"partial_rotary_factor", []any{"partial_rotary_factor", 0.5}},
		{"sliding_window", []any{"model_type", "mistral", "sliding_window", 0}},
		{"layer_types", []any{"model_type", "mistral", "sliding_window", 4, "layer_types", []string{"full_attention"}}},
		{"layer_types", []any{"model_type", "mistral", "sliding_window", 4, "layer_types", []string{"full_attention", "linear_attention"}}},
		{"n_embd", []any{"model_type", "gpt2"}},
		{"eos_token_id", []any{"eos_token_id", "stop"}},
	} {
		_, err := ParseConfig(with(t, tc.kv...))
		if err == nil || !strings.Contains(err.Error(), tc.key) {
			t.Errorf("%v: error %v does not name %s", tc.kv, err, tc.key)
		}
	}
}

func TestConfigWindows(t *testing.T) {
	for _, tc := range []struct {
		kv   []any
		want []int
	}{
		{[]any{"sliding_window", 4}, []int{0, 0}}, // llama has none
		{[]any{"model_type", "mistral", "sliding_window", 4}, []int{4, 4}},
		{[]any{"model_type", "mistral"}, []int{4096, 4096}},
		{[]any{"model_type", "mistral", "sliding_window", json.RawMessage("null")}, []int{0, 0}},
		{[]any{"model_type", "qwen2", "sliding_window", 4}, []int{0, 0}},
		{[]any{"model_type", "qwen2", "sliding_window", 4, "use_sliding_window", true}, []int{0, 0}}, // from layer 28 on
		{[]any{"model_type", "qwen2", "sliding_window", 4, "use_sliding_window", true, "max_window_layers", 1}, []int{0, 4}},
		{[]any{"model_type", "qwen2", "sliding_window", 4, "use_sliding_window", true,
			"layer_types", []string{"sliding_attention", "full_attention"}}, []int{4, 0}},
	} {
		if c, err := ParseConfig(with(t, tc.kv...)); err != nil || !slices.Equal(c.Windows, tc.want) {
			t.Errorf("%v: %+v, %v, want %v", tc.kv, c, err, tc.want)
		}
	}
}

func TestConfigTokens(t *testing.T) {
	for eos, want := range map[string][]int{`2`: {2}, `[2,5]`: {2, 5}, `null`: nil} {
		c, err := ParseConfig(with(t, "eos_token_id", json.RawMessage(eos)))
		if err != nil || !slices.Equal(c.EOS, want) {
			t.Errorf("%s: %+v, %v", eos, c, err)
		}
	}
}

// TestRefusalsSayWhy: what shoal does not train is called by its name, with the reason and what there is instead.
func TestRefusalsSayWhy(t *testing.T) {
	for _, tc := range []struct {
		why string
		kv  []any
	}{
		{`"mixtral" is a mixture of 8 experts`, []any{"model_type", "mixtral", "num_local_experts", 8}},
		{`"qwen3_moe" is a mixture of experts`, []any{"model_type", "qwen3_moe"}},
		{`"qwen2_moe" is a mixture of 60 experts`, []any{"model_type", "qwen2_moe", "num_experts", 60}},
		{`"deepseek_v3" is a mixture of 256 experts`, []any{"model_type", "deepseek_v3", "n_routed_experts", 256}},
		{`"phimoe" is a mixture of experts`, []any{"model_type", "phimoe"}},
		{`"llama" is a mixture of 4 experts`, []any{"num_experts", 4}},
		{`"qwen2_vl" reads images`, []any{"model_type", "qwen2_vl", "vision_config", map[string]any{}}},
		{`"t5" has an encoder`, []any{"model_type", "t5", "is_encoder_decoder", true}},
		{`"mamba" is not an architecture`, []any{"model_type", "mamba"}},
		{"quantization_config", []any{"quantization_config", map[string]any{"quant_method": "gptq"}}},
	} {
		_, err := ParseConfig(with(t, tc.kv...))
		if err == nil || !strings.Contains(err.Error(), tc.why) || tc.why != "quantization_config" && !strings.Contains(err.Error(), known) {
			t.Errorf("%v: error %v, want %q and the list", tc.kv, err, tc.why)
		}
	}
	if _, err := ParseConfig(with(t, "num_experts", 1, "vision_config", nil, "is_encoder_decoder", false)); err != nil {
		t.Errorf("keys that say nothing: %v", err)
	}
}

// TestRopeScaling: newer files keep the rotation in rope_parameters.
func TestRopeScaling(t *testing.T) {
	scaling := map[string]any{"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
		"original_max_position_embeddings": 16}
	old, err := ParseConfig(with(t, "rope_theta", 500000, "rope_scaling", scaling))
	if err != nil {
		t.Fatal(err)
	}
	scaling["rope_theta"] = 500000
	now, err := ParseConfig(with(t, "rope_parameters", scaling))
	if err != nil || !slices.Equal(old.Freq, now.Freq) {
		t.Errorf("%v, %v, want %v", now, err, old.Freq)
	}
	linear, err := ParseConfig(with(t, "rope_scaling", map[string]any{"type": "linear", "factor": 4}))
	if err != nil || linear.Freq[0] != 0.25 {
		t.Errorf("%v, %v", linear, err)
	}
}

// TestReferenceRope holds the llama3 frequencies against float64.
func TestReferenceRope(t *testing.T) {
	root, _ := filepath.Abs("../../../shared/data/reference/models/llama3_rope")
	if _, err := os.Stat(root); err != nil {
		t.Skipf("the shared test data is not here: %v", err)
	}
	c, err := ReadConfig(safetensors.Dir(root))
	if err != nil {
		t.Fatal(err)
	}
	r, size, err := safetensors.Dir(root).Open("rope.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(r, size)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]float64, len(c.Freq))
	if err := f.ReadF64("inv_freq_f64", want); err != nil {
		t.Fatal(err)
	}
	for i, x := range c.Freq {
		if math.Abs(float64(x)/want[i]-1) > 1e-7 {
			t.Errorf("frequency %d is %v, want %v", i, x, want[i])
		}
	}
}

// TestFamilies: what an architecture has where its file says nothing, or says it in one of several ways.
func TestFamilies(t *testing.T) {
	open := func(kv ...any) *Config {
		t.Helper()
		c, err := ParseConfig(with(t, kv...))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	g := open("model_type", "gemma2", "num_hidden_layers", 4, "sliding_window", 16)
	if !slices.Equal(g.Windows, []int{16, 0, 16, 0}) || g.HeadDim != 256 || !g.Tied || g.AttnCap != 50 || g.LogitCap != 30 || g.Scale != 1.0/16 {
		t.Errorf("%+v", g)
	}
	g = open("model_type", "gemma2", "num_hidden_layers", 4, "sliding_window_pattern", 3, "attn_logit_softcapping", nil,
		"final_logit_softcapping", json.RawMessage("null"), "head_dim", 8, "query_pre_attn_scalar", 4)
	if !slices.Equal(g.Windows, []int{4096, 4096, 0, 4096}) || g.AttnCap != 50 || g.LogitCap != 0 || g.Scale != 0.5 || g.HeadDim != 8 {
		t.Errorf("%+v", g)
	}
	if c := open("model_type", "qwen3", "num_hidden_layers", 3, "use_sliding_window", true, "sliding_window", 9, "max_window_layers", 1); c.HeadDim != 128 || !slices.Equal(c.Windows, []int{0, 9, 9}) {
		t.Errorf("%+v", c)
	}
	if c := open("model_type", "phi3", "sliding_window", 7); !slices.Equal(c.Windows, []int{7, 7}) || c.Rope.Scaling != "" || c.RopeScale != 1 {
		t.Errorf("%+v", c)
	}
	long := open("model_type", "phi3", "original_max_position_embeddings", 32, "rope_scaling",
		map[string]any{"type": "su", "short_factor": []float64{1, 1, 2, 2}, "long_factor": []float64{4, 4, 4, 4}})
	if want := math.Sqrt(1 + math.Log(4)/math.Log(32)); long.MaxPos != 32 || math.Abs(float64(long.RopeScale)-want) > 1e-6 || long.Freq[2] != 0.005 {
		t.Errorf("%+v, want a limit of 32 and a factor of %v", long, want)
	}
	yarn := map[string]any{"rope_type": "yarn", "factor": 4, "mscale": 0.707, "mscale_all_dim": 1.4}
	if c, want := open("rope_scaling", yarn), (0.0707*math.Log(4)+1)/(0.14*math.Log(4)+1); math.Abs(float64(c.RopeScale)-want) > 1e-6 || c.Rope.Usual || c.Rope.Context != 128 {
		t.Errorf("%+v, want a factor of %v", c, want)
	}
	delete(yarn, "mscale")
	delete(yarn, "mscale_all_dim")
	old := open("rope_scaling", yarn)
	yarn["rope_theta"] = 10000
	if now := open("rope_parameters", yarn); !slices.Equal(old.Freq, now.Freq) || old.RopeScale != now.RopeScale || old.Rope != now.Rope || !now.Rope.Usual {
		t.Errorf("%+v and %+v", old, now)
	}
}

// FuzzConfig: whatever the text, there is an error or a config whose numbers are sane.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(llamaConfig))
	f.Add([]byte(`{"model_type":"gpt2","n_embd":32,"n_layer":2,"n_head":4,"n_positions":64,"vocab_size":96,"eos_token_id":[1]}`))
	f.Add(with(f, "model_type", "qwen2", "sliding_window", 4, "use_sliding_window", true, "max_window_layers", -5))
	f.Add(with(f, "rope_scaling", map[string]any{"rope_type": "llama3", "factor": 1e-300}))
	f.Add(with(f, "rope_scaling", map[string]any{"rope_type": "yarn", "factor": 1e29, "original_max_position_embeddings": 1e-29}))
	f.Add(with(f, "model_type", "phi3", "original_max_position_embeddings", 2, "rope_scaling", map[string]any{"type": "longrope", "short_factor": []float64{1e-30, 1, 1, 1e29}, "factor": 1e29}))
	f.Add(with(f, "model_type", "gemma2", "query_pre_attn_scalar", 1e-29, "sliding_window_pattern", -3, "final_logit_softcapping", 1e29))
	f.Add(with(f, "model_type", "qwen3", "layer_types", []string{"sliding_attention", "full_attention"}, "sliding_window", 3, "use_sliding_window", true))
	f.Add(with(f, "num_attention_heads", 0))
	f.Add([]byte(`{"model_type":"llama","hidden_size":1e99}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseConfig(text)
		if err != nil {
			return
		}
		if c.Hidden < 1 || c.Layers < 1 || c.Heads < 1 || c.Heads%c.KVHeads != 0 || c.HeadDim < 1 || c.MaxPos < 1 ||
			len(c.Windows) != c.Layers || c.HeadDim*c.Heads > 1<<21 {
			t.Fatalf("%+v", c)
		}
		for _, x := range append(c.Freq, c.Scale, c.RopeScale, c.AttnCap, c.LogitCap) {
			if x < 0 || x-x != 0 {
				t.Fatalf("%v is no frequency, factor or bound: %+v", x, c)
			}
		}
	})
}
