package trainer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

func evalLoss(t *testing.T, tr *trainer.Trainer, r rows) float64 {
	t.Helper()
	e, err := tr.Eval(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return e.Loss
}

func export(t *testing.T, tr *trainer.Trainer, kind string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out")
	if err := tr.Export(dir, kind); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestExportLoRA: what is written can be trained on, with the bits that it had; merged into the base it gives the same
// losses.
func TestExportLoRA(t *testing.T) {
	for _, shape := range []tiny.Shape{{KVHeads: 2}, {Type: "gpt2", Tied: true}, {Type: "qwen2", Tied: true, DType: safetensors.BF16}} {
		files, data := base(t, shape), lesson(12)
		spec := tinySpec(job.Spec{MaxSteps: 5, Adapter: job.AdapterLora, LoraTargetLinear: true, LoraRSLora: true})
		spec.Optimizer.LR = 2e-2
		tr := newTrainer(t, trainer.Config{Spec: valid(t, spec), Model: files, Rows: data})
		start := evalLoss(t, tr, data)
		train(t, tr, math.MaxUint64)
		want := evalLoss(t, tr, data)
		if start-want < 0.01 {
			t.Fatalf("training took the loss from %v to %v alone", start, want)
		}

		again := tinySpec(job.Spec{MaxSteps: 5, LoraModelDir: "out"})
		loaded := newTrainer(t, trainer.Config{Spec: valid(t, again), Model: files, Adapter: safetensors.Dir(export(t, tr, "")), Rows: data})
		if got := evalLoss(t, loaded, data); got != want {
			t.Errorf("%s: loaded again the loss is %v, was %v", shape.Type, got, want)
		}

		dir := export(t, tr, trainer.ExportMerged)
		merged := newTrainer(t, trainer.Config{Spec: valid(t, tinySpec(job.Spec{MaxSteps: 1})), Model: safetensors.Dir(dir), Rows: data})
		limit := 1e-5
		if shape.DType == safetensors.BF16 {
			limit = 1e-2 // the merged weights are rounded to the base's type
		}
		if got := evalLoss(t, merged, data); math.Abs(got-want) > limit {
			t.Errorf("%s: merged the loss is %v, was %v", shape.Type, got, want)
		}
		checkSameTensors(t, filepath.Join(dir, safetensors.SingleFile), filepath.Join(string(files.(safetensors.Dir)), safetensors.SingleFile))
	}
}

// checkSameTensors holds names, types and shapes of two files against each other.
func checkSameTensors(t *testing.T, got, want string) {
	t.Helper()
	a, b := modeltest.File(t, got), modeltest.File(t, want)
	if len(a.Tensors()) != len(b.Tensors()) {
		t.Errorf("%d tensors, want %d", len(a.Tensors()), len(b.Tensors()))
	}
	for _, x := range b.Tensors() {
		if y, ok := a.Tensor(x.Name); !ok || y.DType != x.DType || !slices.Equal(x.Shape, y.Shape) {
			t.Errorf("%s is %+v, want %+v", x.Name, y, x)
		}
	}
}

// TestPEFTNames: keys and config as stock PEFT writes them.
func TestPEFTNames(t *testing.T) {
	for _, tc := range []struct {
		shape  tiny.Shape
		spec   job.Spec
		keys   []string
		fan    bool
		target []string
	}{
		{tiny.Shape{Layers: 1}, job.Spec{LoraR: 4, LoraAlpha: 8}, []string{
			"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
			"base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight", "base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight",
		}, false, []string{"q_proj", "v_proj"}},
		{tiny.Shape{Layers: 1, Type: "gpt2"}, job.Spec{LoraR: 4, LoraAlpha: 8}, []string{
			"base_model.model.transformer.h.0.attn.c_attn.lora_A.weight", "base_model.model.transformer.h.0.attn.c_attn.lora_B.weight",
		}, true, []string{"c_attn"}},
		{tiny.Shape{Layers: 1}, job.Spec{LoraR: 4, LoraAlpha: 8, LoraTargetModules: []string{"down_proj"}}, []string{
			"base_model.model.model.layers.0.mlp.down_proj.lora_A.weight", "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight",
		}, false, []string{"down_proj"}},
	} {
		tc.spec.Adapter = job.AdapterLora
		tr := newTrainer(t, trainer.Config{Spec: valid(t, tinySpec(tc.spec)), Model: base(t, tc.shape), Rows: lesson(2)})
		dir := export(t, tr, trainer.ExportLoRA)
		var keys []string
		for _, x := range modeltest.File(t, filepath.Join(dir, "adapter_model.safetensors")).Tensors() {
			keys = append(keys, x.Name)
		}
		if !slices.Equal(keys, tc.keys) {
			t.Errorf("keys %q, want %q", keys, tc.keys)
		}
		var c map[string]any
		modeltest.JSON(t, filepath.Join(dir, "adapter_config.json"), &c)
		want := map[string]any{"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4.0, "lora_alpha": 8.0, "lora_dropout": 0.0, "bias": "none",
			"fan_in_fan_out": tc.fan, "inference_mode": true, "init_lora_weights": true, "use_rslora": false, "use_dora": false,
			"base_model_name_or_path": "base", "modules_to_save": nil, "layers_to_transform": nil}
		for k, v := range want {
			if got, ok := c[k]; !ok || got != v {
				t.Errorf("%s is %v, want %v", k, got, v)
			}
		}
		got, _ := json.Marshal(c["target_modules"])
		if target, _ := json.Marshal(tc.target); string(got) != string(target) {
			t.Errorf("target_modules %s, want %s", got, target)
		}
	}
}

// TestExportFull: files beside the weights come along, and the weights are those that were trained.
func TestExportFull(t *testing.T) {
	files, data := base(t, tiny.Shape{}), lesson(12)
	spec := valid(t, tinySpec(job.Spec{MaxSteps: 3}))
	tr := newTrainer(t, trainer.Config{Spec: spec, Model: files, Rows: data})
	train(t, tr, math.MaxUint64)
	dir := export(t, tr, "")
	for _, name := range []string{"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		want, err2 := os.ReadFile(filepath.Join(string(files.(safetensors.Dir)), name))
		if err != nil || err2 != nil || string(got) != string(want) {
			t.Errorf("%s did not come along: %v, %v", name, err, err2)
		}
	}
	again := newTrainer(t, trainer.Config{Spec: spec, Model: safetensors.Dir(dir), Rows: data})
	if got, want := evalLoss(t, again, data), evalLoss(t, tr, data); got != want {
		t.Errorf("loaded again the loss is %v, was %v", got, want)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".tmp*")); len(left) > 0 {
		t.Errorf("temporary files stay: %v", left)
	}
}

func TestExportRefuses(t *testing.T) {
	full := newTrainer(t, trainer.Config{Spec: valid(t, tinySpec(job.Spec{})), Model: base(t, tiny.Shape{}), Rows: lesson(2)})
	lora := newTrainer(t, trainer.Config{Spec: valid(t, tinySpec(job.Spec{Adapter: job.AdapterLora})), Model: base(t, tiny.Shape{}), Rows: lesson(2)})
	for kind, tr := range map[string]*trainer.Trainer{"lora": full, "merged": full, "full": lora, "gguf:q2": lora, "onnx": full} {
		if err := tr.Export(t.TempDir(), kind); err == nil {
			t.Errorf("export %s was done", kind)
		}
	}
}

// TestLoRAStartsAtBase: before the first step an adapter changes no bit, and every node draws the same one.
func TestLoRAStartsAtBase(t *testing.T) {
	files, data := base(t, tiny.Shape{}), lesson(4)
	plain := newTrainer(t, trainer.Config{Spec: valid(t, tinySpec(job.Spec{})), Model: files, Rows: data})
	spec := valid(t, tinySpec(job.Spec{Adapter: job.AdapterLora, LoraTargetLinear: true, LoraDropout: 0.5}))
	a := newTrainer(t, trainer.Config{Spec: spec, Model: files, Rows: data})
	b := newTrainer(t, trainer.Config{Spec: spec, Model: files, Rows: data})
	if x, y := evalLoss(t, plain, data), evalLoss(t, a, data); x != y {
		t.Errorf("loss %v with a fresh adapter, %v without", y, x)
	}
	if hash(t, a) != hash(t, b) {
		t.Error("two nodes draw different adapters")
	}
}

// TestLayout: the index space needs no device and is the trainer's.
func TestLayout(t *testing.T) {
	files := base(t, tiny.Shape{Layers: 3, Tied: true})
	for _, spec := range []job.Spec{{}, {Adapter: job.AdapterLora}} {
		sp := valid(t, tinySpec(spec))
		tr := newTrainer(t, trainer.Config{Spec: sp, Model: files, Rows: lesson(2)})
		l, err := trainer.Layout(sp, files, nil)
		own, err2 := tr.Layout()
		if err != nil || err2 != nil || l.Size != tr.Elems() || !slices.Equal(l.Chunks, own.Chunks) {
			t.Errorf("layouts differ: %v, %v", err, err2)
		}
		s, err := tr.Snapshot()
		if err != nil || len(s.W) != l.Size {
			t.Errorf("state of %d elements, the layout has %d, %v", len(s.W), l.Size, err)
		}
	}
}

// TestExportForms: output.as lists what is written; a second directory is a folder in the first, GGUF files lie beside.
func TestExportForms(t *testing.T) {
	files, data := base(t, tiny.Shape{KVHeads: 2}), lesson(6)
	spec := tinySpec(job.Spec{MaxSteps: 2, Name: "bot", Adapter: job.AdapterLora, LoraTargetLinear: true,
		Output: job.Output{As: []string{"gguf:q8_0", "lora", "merged", "gguf"}}})
	spec.Optimizer.LR = 2e-2
	tr := newTrainer(t, trainer.Config{Spec: valid(t, spec), Model: files, Rows: data})
	train(t, tr, math.MaxUint64)
	want := evalLoss(t, tr, data)
	dir := export(t, tr, "")
	for _, name := range []string{"adapter_config.json", "adapter_model.safetensors", "merged/model.safetensors", "merged/config.json", "bot-q8_0.gguf", "bot.gguf"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	merged := newTrainer(t, trainer.Config{Spec: valid(t, tinySpec(job.Spec{MaxSteps: 1})), Model: safetensors.Dir(filepath.Join(dir, "merged")), Rows: data})
	if got := evalLoss(t, merged, data); math.Abs(got-want) > 1e-5 {
		t.Errorf("merged the loss is %v, was %v", got, want)
	}

	// The same forms made of the files alone have the same bytes.
	d := trainer.Trained{Name: "bot", Base: "base", Model: files, Adapter: safetensors.Dir(dir)}
	for as, name := range map[string]string{"gguf": "bot.gguf", "merged": "merged/model.safetensors", "lora": "adapter_model.safetensors"} {
		at := filepath.Join(t.TempDir(), filepath.Base(name))
		if as != "gguf" {
			at = filepath.Dir(at)
		}
		if err := d.Export(at, as); err != nil {
			t.Fatal(err)
		}
		if as != "gguf" {
			at = filepath.Join(at, filepath.Base(name))
		}
		got, err := os.ReadFile(at)
		want, err2 := os.ReadFile(filepath.Join(dir, name))
		if err != nil || err2 != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs (%d bytes, %d): %v, %v", as, len(got), len(want), err, err2)
		}
	}
	if err := (trainer.Trained{Model: files}).Export(t.TempDir(), "lora"); err == nil {
		t.Error("a directory without an adapter was exported as one")
	}
}

// TestSurgery: a job trains the pooled model, its plain form is merged, and the files hold the pooled model.
func TestSurgery(t *testing.T) {
	files, data := base(t, tiny.Shape{}), lesson(6)
	spec := tinySpec(job.Spec{MaxSteps: 2, Adapter: job.AdapterLora, Surgery: job.Surgery{KVHeads: 2}})
	tr := newTrainer(t, trainer.Config{Spec: valid(t, spec), Model: files, Rows: data})
	train(t, tr, math.MaxUint64)
	dir := export(t, tr, "")
	again := newTrainer(t, trainer.Config{Spec: valid(t, tinySpec(job.Spec{MaxSteps: 1})), Model: safetensors.Dir(dir), Rows: data})
	if got, want := evalLoss(t, again, data), evalLoss(t, tr, data); math.Abs(got-want) > 1e-5 {
		t.Errorf("loaded again the loss is %v, was %v", got, want)
	}
	var c map[string]any
	modeltest.JSON(t, filepath.Join(dir, "config.json"), &c)
	if c["num_key_value_heads"] != 2.0 || c["num_attention_heads"] != 4.0 {
		t.Errorf("config.json: %v", c)
	}
}

// TestRefusedBeforeWork: what a model cannot become is said when the job is opened, not when it is done.
func TestRefusedBeforeWork(t *testing.T) {
	for _, tc := range []struct {
		shape tiny.Shape
		spec  job.Spec
		why   string
	}{
		{tiny.Shape{Type: "gemma2", Tied: true}, job.Spec{Output: job.Output{As: []string{"full", "gguf"}}}, "not gemma2"},
		{tiny.Shape{}, job.Spec{Surgery: job.Surgery{KVHeads: 3}}, "choose a divisor"},
		{tiny.Shape{Type: "gpt2"}, job.Spec{Surgery: job.Surgery{KVHeads: 2}}, "gpt2"},
	} {
		if _, err := trainer.Layout(valid(t, tinySpec(tc.spec)), base(t, tc.shape), nil); err == nil || !strings.Contains(err.Error(), tc.why) {
			t.Errorf("%s: %v, want %q", tc.shape.Type, err, tc.why)
		}
	}
}
