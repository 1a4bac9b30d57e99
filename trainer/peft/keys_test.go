package peft_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
)

// keyed are the methods of testdata/keys.
func keyed(family string) map[string]peft.Config {
	norm := map[string]string{"gpt2": "ln_1"}[family]
	if norm == "" {
		norm = "input_layernorm"
	}
	saved := []string{"lm_head", norm}
	if family == "llama" { // the others have one table for both
		saved = append(saved, "embed_tokens")
	}
	return map[string]peft.Config{
		"lora, defaults":      {R: 2, Alpha: 4},
		"lora, all":           {R: 2, Alpha: 4, All: true},
		"lora, saved modules": {R: 2, Alpha: 4, Saved: saved},
		"dora":                {Method: job.AdapterDora, R: 2, Alpha: 4},
		"ia3":                 {Method: job.AdapterIA3},
		"houlsby":             {Method: job.AdapterBottleneck, Bottleneck: job.Bottleneck{Reduction: 4, Sites: []string{"attn", "mlp"}, Act: job.ReLU}},
		"prefix":              {Method: job.AdapterPrefix, Prefix: job.Prefix{Tokens: 5}},
		"prefix, projection":  {Method: job.AdapterPrefix, Prefix: job.Prefix{Tokens: 5, Projection: true}},
		"prompt":              {Method: job.AdapterPrompt, Prompt: job.Prompt{Tokens: 5}},
	}
}

var keyedShapes = map[string]tiny.Shape{
	"llama": {Layers: 1, KVHeads: 2}, "qwen2": {Type: "qwen2", Layers: 1, KVHeads: 2, Tied: true}, "gpt2": {Type: "gpt2", Layers: 1, Tied: true},
}

// saveFresh writes a fresh adapter and gives its folder.
func saveFresh(t *testing.T, family string, c peft.Config) string {
	t.Helper()
	a := newAdapter(t, openTiny(t, keyedShapes[family]), c)
	dir := t.TempDir()
	if err := a.Save(dir, "base", func(p *autograd.Param) []float32 { return start(t, a, p) }); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestKeys: names and shapes in the files are those of the lists, which were written by hand.
func TestKeys(t *testing.T) {
	for family := range keyedShapes {
		lists := readKeys(t, filepath.Join("testdata", "keys", family+".txt"))
		for name, c := range keyed(family) {
			var got []string
			for _, x := range modeltest.File(t, filepath.Join(saveFresh(t, family, c), peft.WeightsFile)).Tensors() {
				got = append(got, x.Name+" "+strings.Trim(fmt.Sprint(x.Shape), "[]"))
			}
			slices.Sort(got)
			if want := lists[name]; !slices.Equal(got, want) {
				t.Errorf("%s, %s:\n%s\nwant\n%s", family, name, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
		if len(lists) != len(keyed(family)) {
			t.Errorf("%s: %d lists", family, len(lists))
		}
	}
}

// readKeys reads sections: a line of a name, then lines of a key and a shape, then an empty line.
func readKeys(t *testing.T, path string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lists := map[string][]string{}
	for _, section := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		if lines := strings.Split(section, "\n"); !strings.HasPrefix(section, "#") {
			lists[lines[0]] = lines[1:]
		}
	}
	return lists
}

// TestConfigFiles: adapter_config.json has what stock PEFT reads, with its types.
func TestConfigFiles(t *testing.T) {
	for _, tc := range []struct{ family, method, want string }{
		{"llama", "lora, defaults", `{"peft_type":"LORA","r":2,"lora_alpha":4,"lora_dropout":0,"target_modules":["q_proj","v_proj"],"bias":"none",
			"fan_in_fan_out":false,"use_dora":false,"use_rslora":false,"init_lora_weights":true,"modules_to_save":null,"layers_to_transform":null,
			"layers_pattern":null,"rank_pattern":{},"alpha_pattern":{}}`},
		{"gpt2", "lora, all", `{"peft_type":"LORA","target_modules":["c_attn","c_proj","c_fc"],"fan_in_fan_out":true}`},
		{"llama", "lora, saved modules", `{"modules_to_save":["lm_head","input_layernorm","embed_tokens"]}`},
		{"qwen2", "lora, saved modules", `{"modules_to_save":["lm_head","input_layernorm","embed_tokens"]}`},
		{"gpt2", "lora, saved modules", `{"modules_to_save":["lm_head","ln_1","wte"]}`},
		{"gpt2", "dora", `{"peft_type":"LORA","use_dora":true,"fan_in_fan_out":true,"target_modules":["c_attn"]}`},
		{"qwen2", "ia3", `{"peft_type":"IA3","target_modules":["k_proj","v_proj","down_proj"],"feedforward_modules":["down_proj"],
			"fan_in_fan_out":false,"init_ia3_weights":true,"modules_to_save":null}`},
		{"gpt2", "ia3", `{"peft_type":"IA3","target_modules":["c_attn","mlp.c_proj"],"feedforward_modules":["mlp.c_proj"],"fan_in_fan_out":true}`},
		{"llama", "houlsby", `{"peft_type":"SHOAL_BOTTLENECK","reduction":4,"sites":["attn","mlp"],"act":"relu"}`},
		{"qwen2", "prefix", `{"peft_type":"PREFIX_TUNING","num_virtual_tokens":5,"token_dim":16,"num_attention_heads":2,"num_layers":1,
			"num_transformer_submodules":1,"encoder_hidden_size":16,"prefix_projection":false}`},
		{"llama", "prefix, projection", `{"peft_type":"PREFIX_TUNING","num_virtual_tokens":5,"token_dim":16,"prefix_projection":false}`},
		{"gpt2", "prompt", `{"peft_type":"PROMPT_TUNING","num_virtual_tokens":5,"token_dim":32,"num_attention_heads":4,"num_layers":1,
			"num_transformer_submodules":1,"prompt_tuning_init":"RANDOM","prompt_tuning_init_text":null,"tokenizer_name_or_path":null}`},
	} {
		var got, want map[string]any
		modeltest.JSON(t, filepath.Join(saveFresh(t, tc.family, keyed(tc.family)[tc.method]), peft.ConfigFile), &got)
		if err := json.Unmarshal([]byte(tc.want), &want); err != nil {
			t.Fatal(err)
		}
		for k, v := range map[string]any{"task_type": "CAUSAL_LM", "inference_mode": true, "base_model_name_or_path": "base", "revision": nil, "auto_mapping": nil} {
			want[k] = v
		}
		for k, v := range want {
			if x, ok := got[k]; !ok || fmt.Sprint(x) != fmt.Sprint(v) {
				t.Errorf("%s, %s: %s is %v (there: %v), want %v", tc.family, tc.method, k, x, ok, v)
			}
		}
	}
}
