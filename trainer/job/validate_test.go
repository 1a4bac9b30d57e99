package job

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDefaults(t *testing.T) {
	s, err := Parse([]byte(small + "adapter: lora\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	want := Spec{
		Version: Version, Name: "tiny", BaseModel: "models/tiny", DType: "fp32", Adapter: "lora", LoraR: 8, LoraAlpha: 16,
		Datasets: []Dataset{{Path: "a.jsonl"}}, Shuffle: new(true), MicroBatchSize: 1, GlobalBatchSize: 1, NumEpochs: 1,
		Optimizer:   Optimizer{Name: "adamw", LR: 1e-3, Betas: []float64{0.9, 0.999}, Eps: 1e-8, NoDecay: &[]string{"norm", "bias"}},
		LRScheduler: Scheduler{Name: "constant"}, MaxGradNorm: new(1.0), Swarm: Swarm{MinPeers: 1}, Wire: Wire{Gradients: "fp32"}, Checkpoint: Checkpoint{10},
	}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
}

// TestAccumulation: the global batch is that many micro-batches, and saying both is fine where they agree.
func TestAccumulation(t *testing.T) {
	for _, text := range []string{"gradient_accumulation_steps: 3\nmicro_batch_size: 2\n",
		"gradient_accumulation_steps: 3\nmicro_batch_size: 2\nglobal_batch_size: 6\n"} {
		s, err := Parse([]byte(small + text))
		for range 2 { // a validated spec stays as it is
			if err == nil {
				err = s.Validate()
			}
		}
		if err != nil || s.GlobalBatchSize != 6 {
			t.Errorf("%q gives a batch of %d, %v", text, s.GlobalBatchSize, err)
		}
	}
}

func TestValidateRefuses(t *testing.T) {
	for set, want := range map[string]string{
		"version=":                    "version is missing",
		"version=shoal/v2":            "reads shoal/v1",
		"base_model=":                 "base_model is missing",
		"base_model=\"a\\tb\"":        "control character",
		"dtype=fp8":                   "choose fp32, bf16, fp16",
		"adapter=qlora":               "choose lora, dora, ia3, bottleneck, prefix, prompt, none",
		"lora_r=8":                    "write adapter: lora or dora, or remove lora_r",
		"adapter=lora lora_r=-1":      "lora_r is -1",
		"adapter=lora lora_alpha=-1":  "lora_alpha is -1",
		"adapter=lora lora_dropout=1": "lora_dropout is 1",
		"adapter=lora lora_target_linear=true lora_target_modules=[a]": "keep one of them",
		"datasets=[]":                            "datasets is missing",
		"datasets=[{type:\"text\"}]":             "datasets.0.path is missing",
		"datasets.0.type=sharegpt2":              "datasets.0.type is",
		"val_set_size=1.5":                       "val_set_size is 1.5",
		"val_set_size=-1":                        "val_set_size is -1",
		"val_set_size=NaN":                       "val_set_size is NaN",
		"sequence_len=1":                         "sequence_len is 1",
		"micro_batch_size=-2":                    "micro_batch_size is -2",
		"micro_batch_size=4 global_batch_size=2": "larger than global_batch_size 2",
		"gradient_accumulation_steps=-1":         "gradient_accumulation_steps is -1",
		"gradient_accumulation_steps=3 micro_batch_size=2 global_batch_size=8": "2 is 6 but global_batch_size is 8",
		"gradient_accumulation_steps=9999999 micro_batch_size=9999999":         "choose 1 to",
		"max_steps=3 num_epochs=1":     "keep one of them",
		"max_steps=-3":                 "max_steps is -3",
		"num_epochs=-1":                "num_epochs is -1",
		"num_epochs=Inf":               "num_epochs is",
		"optimizer.lr=":                "optimizer.lr is missing",
		"optimizer.lr=-1":              "optimizer.lr is -1",
		"optimizer.lr=NaN":             "optimizer.lr is NaN",
		"name=../up":                   "use letters, digits",
		"name=/etc/x":                  "use letters, digits",
		"name=..":                      "beginning with a letter or digit",
		"optimizer.name=adam":          "choose adamw",
		"optimizer.betas=[0.9]":        "write two",
		"optimizer.betas=[0.9,1]":      "optimizer.betas is",
		"optimizer.eps=-1":             "optimizer.eps is",
		"optimizer.weight_decay=-1":    "weight_decay is",
		"max_grad_norm=-1":             "max_grad_norm is -1",
		"lr_scheduler.name=step":       "choose constant, linear, cosine",
		"lr_scheduler.warmup_steps=-1": "warmup_steps is -1",
		"max_steps=5 num_epochs= lr_scheduler.warmup_steps=6":            "is more than max_steps 5",
		"lr_scheduler.min_lr_ratio=2":                                    "min_lr_ratio is 2",
		"swarm.min_peers=-1":                                             "min_peers is -1",
		"swarm.min_peers=3 swarm.max_peers=2":                            "raise the first",
		"checkpoint.every_steps=-1":                                      "checkpoint.every_steps is -1",
		"eval.every_steps=5":                                             "set val_set_size",
		"eval.every_steps=-1":                                            "eval.every_steps is -1",
		"eval.patience=2":                                                "eval.patience goes by the loss of held-out rows",
		"eval.keep_best=true":                                            "eval.keep_best goes by the loss of held-out rows",
		"eval.patience=2 val_set_size=2":                                 "set eval.every_steps",
		"eval.patience=-1":                                               "eval.patience is -1",
		"eval.tasks=[{fewshot:1}]":                                       "eval.tasks.0.path is missing",
		"eval.tasks=[{path:\"q\",fewshot:-1}]":                           "eval.tasks.0.fewshot is -1",
		"eval.tasks=[{path:\"q\",fewshot:1000}]":                         "choose 0 to 64",
		"eval.samples=[\"\"]":                                            "eval.samples.0 is empty",
		"max_steps=5 num_epochs= eval.every_steps=6 val_set_size=2":      "more than max_steps 5",
		"sample_packing=true":                                            "sample_packing needs sequence_len",
		"adapter=prefix sample_packing=true sequence_len=64":             "sample_packing does not go with adapter: prefix",
		"neftune_alpha=-1":                                               "neftune_alpha is -1",
		"chat_template=vicuna":                                           "choose tokenizer_default",
		"prefix.tokens=4":                                                "prefix.tokens is set but adapter is none",
		"adapter=prefix prefix.hidden=8":                                 "prefix.projection is not",
		"adapter=prompt lora_r=4":                                        "write adapter: lora or dora, or remove lora_r",
		"adapter=lora unfrozen_parameters=[a]":                           "unfrozen_parameters is set but adapter is lora",
		"unfrozen_parameters=[\"(\"]":                                    "no regular expression",
		"adapter=ia3 ia3.target_modules=[a] ia3.feedforward_modules=[b]": "ia3.feedforward_modules names",
		"adapter=bottleneck bottleneck.sites=[head]":                     "bottleneck.sites is",
		"adapter=bottleneck bottleneck.sites=[mlp,mlp]":                  "twice",
		"adapter=bottleneck bottleneck.act=tanh":                         "choose relu, silu, gelu",
		"optimizer.name=sgd optimizer.betas=[0.9,0.99]":                  "optimizer.betas belongs to",
		"optimizer.momentum=0.9":                                         "optimizer.momentum belongs to sgd",
		"optimizer.name=sgd optimizer.nesterov=true":                     "without optimizer.momentum",
		"optimizer.rho=0.1":                                              "optimizer.rho belongs to sophia",
		"lr_scheduler.decay_ratio=0.1":                                   "belongs to wsd",
		"lr_scheduler.name=wsd lr_scheduler.warmup_ratio=0.5 lr_scheduler.decay_ratio=0.6": "more than the whole run",
		"lr_scheduler.warmup_ratio=0.1 lr_scheduler.warmup_steps=3":                        "keep one of them",
		"output.as=[onnx]":                                         "choose lora, merged, full, gguf",
		"output.as=[gguf:q4_k_m]":                                  "gguf:q8_0",
		"output.as=[lora]":                                         "write it as full or gguf",
		"output.as=[full,full]":                                    "output.as holds full twice",
		"adapter=lora output.as=[full]":                            "write it as lora, merged or gguf",
		"adapter=prompt output.as=[gguf]":                          "has no merged form",
		"adapter=lora surgery.kv_heads=2 output.as=[lora]":         "shoal model convert-gqa",
		"adapter=prefix surgery.kv_heads=2":                        "has no merged form",
		"surgery.kv_heads=-1":                                      "surgery.kv_heads is -1",
		"lr_scheduler.name=constant lr_scheduler.min_lr_ratio=0.1": "belongs to linear, cosine and wsd",
		"wire.gradients=int4":                                      "choose fp32, bf16 or int8",
	} {
		s, err := Parse([]byte(small))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range strings.Fields(set) {
			if err := s.Set(a); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", set, err, want)
		}
	}
}

func TestNameFromModel(t *testing.T) {
	for ref, want := range map[string]string{
		"models/tiny/":       "tiny",
		"hf:owner/name@main": "name",
		"my model (v2)":      "my-model--v2-",
		".":                  "job",
		"..":                 "job",
		"/":                  "job",
		"./.cache":           "cache",
	} {
		s, _ := Parse([]byte(small))
		s.BaseModel = ref
		if err := s.Validate(); err != nil || s.Name != want {
			t.Errorf("%s: name %q, %v; want %q", ref, s.Name, err, want)
		}
	}
}

func TestZeroIsNoDefault(t *testing.T) {
	for _, key := range neverZero() {
		var s Spec
		if err := s.Set(key + "=0"); err == nil || !strings.Contains(err.Error(), key+" is 0; choose a positive number") {
			t.Errorf("%s: %v", key, err)
		}
		if err := s.Set(key + "="); err != nil {
			t.Errorf("%s unset: %v", key, err)
		}
	}
}

func TestAdopt(t *testing.T) {
	a := Adapter{R: 4, Alpha: 8, TargetModules: []string{"q_proj", "v_proj"}}
	s, _ := Parse([]byte(small + "lora_model_dir: d\nlora_alpha: 8\nlora_target_modules: [v_proj, q_proj]\n"))
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if s.Adapter != "" || s.LoraR != 0 {
		t.Errorf("before: %+v", s)
	}
	if err := s.Adopt(a); err != nil {
		t.Fatal(err)
	}
	if s.Adapter != AdapterLora || s.LoraR != 4 || s.LoraAlpha != 8 || s.LoraTargetModules[0] != "q_proj" {
		t.Errorf("after: %+v", s)
	}
	for _, line := range []string{"lora_r: 8", "lora_alpha: 9", "lora_dropout: 0.1", "lora_rslora: true", "lora_target_modules: [q_proj]",
		"lora_target_linear: true", "lora_modules_to_save: [norm]", "prefix: {tokens: 3}"} {
		s, _ := Parse([]byte(small + "lora_model_dir: d\n" + line + "\n"))
		if err := s.Adopt(a); err == nil || !strings.Contains(err.Error(), "remove the key") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestCanonical(t *testing.T) {
	short, _ := Parse([]byte(small))
	long := short
	if err := long.Validate(); err != nil {
		t.Fatal(err)
	}
	a, err := short.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	b, err := long.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if string(a) != string(b) {
		t.Error("defaults written out change the canonical bytes")
	}
	back, err := FromCanonical(a)
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := back.Canonical(); string(c) != string(a) {
		t.Error("canonical bytes do not survive a round trip")
	}
	if _, err := FromCanonical(append(a, 0)); err == nil {
		t.Error("trailing byte accepted")
	}
	if _, err := FromCanonical(a[:len(a)-1]); err == nil {
		t.Error("short bytes accepted")
	}
}

func FuzzFromCanonical(f *testing.F) {
	for _, text := range []string{full, small} {
		s, err := Parse([]byte(text))
		if err != nil {
			f.Fatal(err)
		}
		b, err := s.Canonical()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0xa1, 0x61, 'x', 0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := FromCanonical(data)
		if err != nil {
			return
		}
		if b, err := s.Canonical(); err != nil || string(b) != string(data) {
			t.Fatalf("accepted bytes are not canonical: %v", err)
		}
	})
}

func TestSteps(t *testing.T) {
	for _, tc := range []struct {
		rows           uint64
		epochs         float64
		maxSteps, gb   int
		steps, samples uint64
	}{
		{200, 1, 0, 4, 50, 200},
		{201, 1, 0, 4, 51, 201},
		{200, 0, 7, 4, 7, 28},
		{10, 2.5, 0, 4, 7, 25},
		{1000, 1.1, 0, 10, 110, 1100},
		{3, 0.1, 0, 1, 1, 1},
		{7, 3, 0, 100, 1, 21},
		{0, 1, 0, 4, 0, 0},
	} {
		s := Spec{NumEpochs: tc.epochs, MaxSteps: tc.maxSteps, GlobalBatchSize: tc.gb}
		if got := s.Steps(tc.rows); got != tc.steps {
			t.Errorf("%+v: %d steps", tc, got)
		}
		if got := s.Samples(tc.rows); got != tc.samples {
			t.Errorf("%+v: %d samples", tc, got)
		}
		if tc.steps > 0 {
			lo, hi := s.Batch(tc.rows, tc.steps)
			if hi != tc.samples || lo != (tc.steps-1)*uint64(tc.gb) {
				t.Errorf("%+v: last batch [%d, %d)", tc, lo, hi)
			}
		}
	}
}

// TestLR compares with a table that is filled in the plainest way.
func TestLR(t *testing.T) {
	const lr, T, m = 1e-3, 50, 0.1
	for _, warmup := range []struct {
		steps int
		ratio float64
		want  float64
	}{{5, 0, 5}, {0, 0.1, 5}, {0, 0.09, 5}, {0, 0.14, 7}, {0, 0, 0}, {50, 0, 50}} {
		w := warmup.want
		for step := uint64(1); step <= T; step++ {
			t64 := float64(step)
			want := map[string]float64{
				Constant: lr,
				Linear:   lr * (m + (1-m)*(1-(t64-1-w)/(T-w))),
				Cosine:   lr * (m + (1-m)*(1+math.Cos(math.Pi*(t64-w)/(T-w)))/2),
				WSD:      lr,
			}
			if falling := min(10, T-w); t64 > T-falling {
				want[WSD] = lr * (m + (1-m)*(T-t64+1)/falling)
			}
			for name, v := range want {
				if t64 <= w {
					v = lr * t64 / w
				}
				c := Scheduler{Name: name, WarmupSteps: warmup.steps, WarmupRatio: warmup.ratio, MinLRRatio: m}
				if name == WSD {
					c.DecayRatio = 0.2
				}
				s := Spec{Optimizer: Optimizer{LR: lr}, LRScheduler: c}
				if got := s.LR(step, T); math.Abs(got-v) > 1e-18 {
					t.Errorf("%s, warm-up %v, step %d: %v, want %v", name, w, step, got, v)
				}
			}
		}
	}
	s := Spec{Optimizer: Optimizer{LR: 1}, LRScheduler: Scheduler{Name: Cosine, WarmupSteps: 10}}
	if got := s.LR(5, 3); got != 0.5 { // warm-up longer than the run
		t.Errorf("%v", got)
	}
	if got := s.LR(11, 10); got != 0 || math.IsNaN(got) {
		t.Errorf("past the end: %v", got)
	}
}

// TestForms: what is asked for wins over what the spec lists, and that over the plain form.
func TestForms(t *testing.T) {
	for _, tc := range []struct {
		spec Spec
		as   string
		want []string
	}{
		{Spec{Adapter: AdapterNone}, "", []string{FormFull}},
		{Spec{Adapter: AdapterPrefix}, "", []string{FormLoRA}},
		{Spec{Adapter: AdapterLora, Surgery: Surgery{KVHeads: 2}}, "", []string{FormMerged}},
		{Spec{Adapter: AdapterLora, Output: Output{As: []string{"lora", "gguf:q8_0"}}}, "", []string{"lora", "gguf:q8_0"}},
		{Spec{Adapter: AdapterLora, Output: Output{As: []string{"lora", "gguf:q8_0"}}}, FormMerged, []string{FormMerged}},
		{Spec{Adapter: AdapterNone}, FormLoRA, nil},
		{Spec{Adapter: AdapterNone}, "pickle", nil},
	} {
		got, err := tc.spec.Forms(tc.as)
		if d := cmp.Diff(tc.want, got); d != "" || (err == nil) != (tc.want != nil) {
			t.Errorf("%+v as %q: %v, %v", tc.spec, tc.as, got, err)
		}
	}
}

// TestOptimizerDefaults: each optimizer gets the defaults of its own keys and no others.
func TestOptimizerDefaults(t *testing.T) {
	for name, want := range optimizers() {
		s, _ := Parse([]byte(small))
		s.Optimizer.Name = name
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		want.Name, want.LR, want.NoDecay = name, s.Optimizer.LR, &[]string{"norm", "bias"}
		if d := cmp.Diff(want, s.Optimizer); d != "" {
			t.Error(d)
		}
		bytes, err := s.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := FromCanonical(bytes); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
