package peft_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
)

// TestSharedTable: a file for a model whose ends share a table has the table twice, alike.
func TestSharedTable(t *testing.T) {
	m := openTiny(t, tiny.Shape{Tied: true, Layers: 1})
	const config = `{"peft_type":"IA3","target_modules":["k_proj"],"modules_to_save":["embed_tokens","lm_head"]}`
	const vector, table, head = "base_model.model.model.layers.0.self_attn.k_proj.ia3_l", "base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight"
	values := make([]float32, tiny.Bytes*32)
	other := slices.Clone(values)
	other[len(other)-1] = 1
	shapes := map[string][]int{vector: {32, 1}, table: {tiny.Bytes, 32}, head: {tiny.Bytes, 32}}
	for _, tc := range []struct {
		head  []float32
		order []string
		want  string
	}{
		{values, []string{vector, table, head}, ""}, {other, []string{vector, table, head}, "differ"}, {values, []string{vector, table}, "holds no " + head},
	} {
		a, err := peft.Open(m, stored(t, config, map[string][]float32{vector: make([]float32, 32), table: values, head: tc.head}, shapes, tc.order...), 0)
		if tc.want == "" && err == nil {
			if len(a.Weights()) != 2 {
				t.Errorf("%d weights", len(a.Weights()))
			}
			a.Close()
			continue
		}
		if err == nil || tc.want == "" || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v, want %q", err, tc.want)
		}
	}
}

// FuzzOpen: whatever the two files hold, there is an error or an adapter of which every value can be read.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	if err := tiny.Write(dir, tiny.Shape{Layers: 1, Hidden: 8, Heads: 2, Tied: true}, 3); err != nil {
		f.Fatal(err)
	}
	m, err := model.Open(safetensors.Dir(dir))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { m.Close() })
	const path = "base_model.model.model.layers.0."
	for _, seed := range []struct {
		config string
		shapes map[string][]int
	}{
		{`{"peft_type":"LORA","r":1,"target_modules":["k_proj"]}`, map[string][]int{path + "self_attn.k_proj.lora_A.weight": {1, 8}, path + "self_attn.k_proj.lora_B.weight": {8, 1}}},
		{`{"peft_type":"IA3","target_modules":["down_proj"],"feedforward_modules":["down_proj"]}`, map[string][]int{path + "mlp.down_proj.ia3_l": {1, 16}}},
		{`{"peft_type":"PREFIX_TUNING","num_virtual_tokens":2}`, map[string][]int{"prompt_embeddings": {2, 16}}},
		{`{"peft_type":"PROMPT_TUNING","num_virtual_tokens":2}`, map[string][]int{"prompt_embeddings": {2, 8}}},
		{`{"peft_type":"SHOAL_BOTTLENECK","reduction":4,"sites":["mlp"],"act":"gelu"}`, map[string][]int{path + "mlp.adapter_down.weight": {2, 8},
			path + "mlp.adapter_down.bias": {2}, path + "mlp.adapter_up.weight": {8, 2}, path + "mlp.adapter_up.bias": {8}}},
		{`{"peft_type":"IA3","target_modules":["v_proj"],"modules_to_save":["norm"]}`, map[string][]int{path + "self_attn.v_proj.ia3_l": {8, 1}, "base_model.model.model.norm.weight": {8}}},
	} {
		values, order := map[string][]float32{}, []string{}
		for name, shape := range seed.shapes {
			order = append(order, name)
			n := 1
			for _, d := range shape {
				n *= d
			}
			values[name] = make([]float32, n)
		}
		slices.Sort(order)
		s := stored(f, seed.config, values, seed.shapes, order...)
		if a, err := peft.Open(m, s, 0); err != nil {
			f.Fatalf("%s: %v", seed.config, err)
		} else {
			a.Close()
		}
		f.Add([]byte(seed.config), s[peft.WeightsFile])
	}
	f.Fuzz(func(t *testing.T, config, weights []byte) {
		a, err := peft.Open(m, files{peft.ConfigFile: config, peft.WeightsFile: weights}, 0)
		if err != nil {
			return
		}
		defer a.Close()
		for _, p := range a.Weights() {
			_ = a.Read(p, make([]float32, p.Len())) // an error is fine: types are judged here
		}
	})
}
