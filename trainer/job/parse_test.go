package job

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const full = `# every key
version: shoal/v1
name: support-bot
base_model: hf:owner/name@main
seed: 42
dtype: fp32
adapter: lora
lora_r: 4
lora_alpha: 32
lora_dropout: 0.05
lora_target_modules: [q_proj, "v_proj"]
lora_rslora: true
datasets:
  - path: a.jsonl
    type: messages
  - {path: b.jsonl}
val_set_size: 0.02
sequence_len: 256
shuffle: false
skip_bad_rows: true
train_on_inputs: true
micro_batch_size: 2
global_batch_size: 8
max_steps: 50
optimizer: {name: adamw, lr: 2e-4, betas: [0.9, .95], eps: 1e-7, weight_decay: 0.1, no_decay: []}
lr_scheduler:
  name: cosine
  warmup_steps: 5
  min_lr_ratio: 0.1
max_grad_norm: 0
swarm: {min_peers: 2, max_peers: 16}
wire: {gradients: bf16}
checkpoint: {every_steps: 5}
eval: {every_steps: 10}
`

func fullSpec() Spec {
	return Spec{
		Version: Version, Name: "support-bot", BaseModel: "hf:owner/name@main", Seed: 42, DType: "fp32",
		Adapter: "lora", LoraR: 4, LoraAlpha: 32, LoraDropout: 0.05, LoraTargetModules: []string{"q_proj", "v_proj"}, LoraRSLora: true,
		Datasets: []Dataset{{Path: "a.jsonl", Type: "messages"}, {Path: "b.jsonl"}}, ValSetSize: 0.02, SequenceLen: 256,
		Shuffle: new(false), SkipBadRows: true, TrainOnInputs: true,
		MicroBatchSize: 2, GlobalBatchSize: 8, MaxSteps: 50,
		Optimizer: Optimizer{
			Name: "adamw", LR: 2e-4, Betas: []float64{0.9, 0.95}, Eps: 1e-7, WeightDecay: 0.1, NoDecay: &[]string{},
		},
		LRScheduler: Scheduler{Name: "cosine", WarmupSteps: 5, MinLRRatio: 0.1},
		MaxGradNorm: new(0.0), Swarm: Swarm{2, 16}, Wire: Wire{Gradients: "bf16"}, Checkpoint: Checkpoint{5}, Eval: Eval{EverySteps: 10},
	}
}

const small = "version: shoal/v1\nbase_model: models/tiny\ndatasets: [{path: a.jsonl}]\noptimizer: {lr: 1e-3}\n"

func TestParse(t *testing.T) {
	got, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(fullSpec(), got); d != "" {
		t.Error(d)
	}
	if err := got.Validate(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(fullSpec(), got); d != "" {
		t.Error("Validate changed a complete spec:", d)
	}
}

func TestParseJSON(t *testing.T) {
	in := "{\n\t\"version\": \"shoal/v1\", \"base_model\": \"m\",\n\t\"datasets\": [{\"path\": \"a\\u0062.jsonl\"}],\n\t\"optimizer\": {\"lr\": 2e-4, \"no_decay\": []}, \"shuffle\": false, \"name\": null\n}\n"
	s, err := Parse([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	if s.Datasets[0].Path != "ab.jsonl" || s.Optimizer.LR != 2e-4 || len(*s.Optimizer.NoDecay) != 0 || *s.Shuffle {
		t.Errorf("%+v", s)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"unknown key":     {small + "lora_rank: 8\n", `line 5: unknown key "lora_rank"; the nearest known one is "lora_r"`},
		"unknown, nested": {small + "swarm:\n  min_per: 2\n", `line 6: unknown key "swarm.min_per"; the nearest known one is "swarm.min_peers"`},
		"unknown in list": {"datasets:\n- path: a\n  typ: text\n", `line 3: unknown key "datasets.0.typ"; the nearest known one is "datasets.0.type"`},
		"another level":   {small + "lr: 1e-4\n", `line 5: unknown key "lr"; did you mean "optimizer.lr"?`},
		"another trainer": {small + "learning_rate: 1e-4\n", `line 5: unknown key "learning_rate"; here it is "optimizer.lr"`},
		"twice":           {small + "base_model: b\n", `line 5: key "base_model" again (first on line 2)`},
		"twice in JSON":   {"{\"seed\": 1,\n\"seed\": 2}", `line 2: key "seed" again (first on line 1)`},
		"number wanted":   {small + "lora_r: many\n", `line 5: lora_r: want a whole number below 2^31, got "many"`},
		"quoted number":   {small + "lora_r: \"8\"\n", "without quotes"},
		"fraction":        {small + "lora_r: 8.5\n", "want a whole number"},
		"bool":            {small + "shuffle: yes\n", `want true or false, got "yes"`},
		"list wanted":     {small + "lora_target_modules: q_proj\n", "want a list"},
		"mapping wanted":  {small + "swarm: 3\n", "want a mapping of keys"},
		"value wanted":    {small + "seed: [1]\n", "want a whole number"},
		"negative seed":   {small + "seed: -1\n", "want a whole number"},
		"alias":           {"name: &a x\nbase_model: *a\n", "not used in a job spec"},
		"merge":           {"swarm: {min_peers: 1}\noptimizer:\n  <<: {lr: 1}\n", "line 3"},
		"tag":             {"seed: !!int 3\n", "not used in a job spec"},
		"two documents":   {small + "---\nseed: 1\n", "line 6: a second document"},
		"list at the top": {"- a\n", "want a mapping of keys"},
		"YAML syntax":     {small + "seed: [1\n", "line 5, column 7: not readable as YAML: sequence end token"},
		"JSON, cut off":   {`{"seed": 1`, "not readable as JSON"},
		"JSON, more":      {`{"seed": 1} {}`, "something follows"},
		"not UTF-8":       {"name: \xff\n", "not UTF-8"},
		"too large":       {"name: " + strings.Repeat("x", MaxBytes), "at most 65536 bytes"},
		"deep flow":       {"a: " + strings.Repeat("[", 60000), "nested too deeply"},
		"deep JSON":       {strings.Repeat(`{"a":`, 1000), "nested too deeply"},
		"deep block":      {strings.Repeat("- ", 30000), "nested too deeply"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(tc.in))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestSet(t *testing.T) {
	s, err := Parse([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{
		"optimizer.lr=2e-3", "optimizer.betas=[0.8, 0.9]", "datasets.0.path=/data/a=b # c.jsonl", "shuffle=false",
		"name='007'", "max_steps=5", "max_steps=", "lora_target_modules=[a,b]",
	} {
		if err := s.Set(a); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	want, _ := Parse([]byte(small))
	want.Optimizer.LR, want.Optimizer.Betas = 2e-3, []float64{0.8, 0.9}
	want.Datasets[0].Path, want.Shuffle, want.Name = "/data/a=b # c.jsonl", new(false), "007"
	want.LoraTargetModules = []string{"a", "b"}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
}

func TestSetRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"max_steps":         "want key=value",
		"=3":                "want key=value",
		"maxsteps=3":        `the nearest known one is "max_steps"`,
		"optimizer.rl=3":    `the nearest known one is "optimizer.lr"`,
		"optimizer.lr.x=3":  "is a single value",
		"datasets.7.path=x": "has 1 elements",
		"max_steps=many":    "want a whole number",
		"optimizer=[1":      "not readable",
	} {
		s, _ := Parse([]byte(small))
		if err := s.Set(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", in, err, want)
		}
	}
}

func TestLoad(t *testing.T) {
	name := filepath.Join(t.TempDir(), "job.yaml")
	if err := os.WriteFile(name, []byte("nam: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(name); err == nil || !strings.Contains(err.Error(), "job.yaml: line 1: unknown key") {
		t.Errorf("%v", err)
	}
	if _, err := Load(name + "x"); err == nil {
		t.Error("a missing file has no error")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(small))
	f.Add([]byte(`{"version":"shoal/v1","optimizer":{"lr":1}}`))
	f.Add([]byte("a: &x [*x]\n? b\n: |-\n  c\n"))
	f.Add([]byte("{a: 1, 'b': \"\\x41\", [c]: !!binary d}"))
	f.Add(bytes.Repeat([]byte("a: {"), 20))
	f.Fuzz(func(t *testing.T, data []byte) {
		began := time.Now()
		s, err := Parse(data)
		if d := time.Since(began); d > 10*time.Second {
			t.Fatalf("%d bytes took %v", len(data), d)
		}
		if err != nil || s.Validate() != nil {
			return
		}
		c, err := s.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		back, err := FromCanonical(c)
		if err != nil {
			t.Fatalf("canonical bytes do not read back: %v", err)
		}
		again, err := back.Canonical()
		if err != nil || !bytes.Equal(again, c) {
			t.Fatalf("canonical bytes changed: %v", err)
		}
	})
}
