package trainer_test

import (
	"math"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
)

// kinds are jobs with each kind of adapter.
var kinds = map[string]job.Spec{
	"lora":       {Adapter: job.AdapterLora, LoraTargetLinear: true},
	"dora":       {Adapter: job.AdapterDora, LoraModulesToSave: []string{"lm_head", "ln_1"}},
	"ia3":        {Adapter: job.AdapterIA3},
	"bottleneck": {Adapter: job.AdapterBottleneck, Bottleneck: job.Bottleneck{Sites: []string{"attn", "mlp"}, Act: job.GELU}},
	"prefix":     {Adapter: job.AdapterPrefix, Prefix: job.Prefix{Tokens: 4}},
	"projection": {Adapter: job.AdapterPrefix, Prefix: job.Prefix{Tokens: 4, Projection: true}},
	"prompt":     {Adapter: job.AdapterPrompt, Prompt: job.Prompt{Tokens: 4}},
}

// TestContinue: what is exported can be trained on, with a spec that names nothing but its folder; merged into the base,
// where that can be, it gives the same losses.
func TestContinue(t *testing.T) {
	for _, shape := range []tiny.Shape{{Type: "gpt2", Tied: true}, {Type: "qwen3", KVHeads: 2}, {Type: "gemma2", Tied: true, KVHeads: 2}, {Type: "phi3", KVHeads: 2}} {
		t.Run(shape.Type, func(t *testing.T) { checkContinue(t, shape) })
	}
}

func checkContinue(t *testing.T, shape tiny.Shape) {
	files, data := base(t, shape), lesson(12)
	for name, spec := range kinds {
		t.Run(name, func(t *testing.T) {
			if shape.Type != "gpt2" {
				spec.LoraModulesToSave = nil // names of gpt2's
			}
			spec := tinySpec(spec)
			spec.MaxSteps, spec.Optimizer.LR = 5, 3e-2
			if shape.Type == "gemma2" {
				spec.Optimizer.LR = 1e-2 // it multiplies what is embedded
			}
			tr := newTrainer(t, trainer.Config{Spec: valid(t, spec), Model: files, Rows: data})
			before := evalLoss(t, tr, data)
			train(t, tr, math.MaxUint64)
			want := evalLoss(t, tr, data)
			if before-want < 1e-3 {
				t.Fatalf("training took the loss from %v to %v alone", before, want)
			}
			stored := safetensors.Dir(export(t, tr, ""))
			again := adopted(t, stored)
			next := newTrainer(t, trainer.Config{Spec: again, Model: files, Adapter: stored, Rows: data})
			if got := evalLoss(t, next, data); got != want && !(name == "projection" && math.Abs(got-want) < 1e-5) {
				t.Errorf("loaded again the loss is %v, was %v", got, want)
			}
			l, err := trainer.Layout(again, files, stored)
			if err != nil || l.Size != next.Elems() {
				t.Errorf("the layout has %+v, %v; the trainer %d elements", l, err, next.Elems())
			}
			if r := train(t, next, math.MaxUint64); len(r) != 3 || evalLoss(t, next, data) >= want {
				t.Errorf("%d steps on do not help", len(r))
			}
			checkMerged(t, tr, spec, data, want)
		})
	}
}

// adopted is a spec of three steps that takes everything from the adapter.
func adopted(t *testing.T, stored safetensors.Dir) *job.Spec {
	t.Helper()
	c, err := peft.ReadConfig(stored)
	if err != nil {
		t.Fatal(err)
	}
	spec := tinySpec(job.Spec{MaxSteps: 3, LoraModelDir: string(stored)})
	s := valid(t, spec)
	s.Optimizer.LR = 1e-2
	if err := s.Adopt(c.Job()); err != nil {
		t.Fatal(err)
	}
	return s
}

func checkMerged(t *testing.T, tr *trainer.Trainer, spec job.Spec, data rows, want float64) {
	t.Helper()
	if !spec.Mergeable() {
		if err := tr.Export(t.TempDir(), trainer.ExportMerged); err == nil || !strings.Contains(err.Error(), "write it as lora") {
			t.Errorf("merged: %v", err)
		}
		return
	}
	dir := export(t, tr, trainer.ExportMerged)
	merged := newTrainer(t, trainer.Config{Spec: valid(t, tinySpec(job.Spec{MaxSteps: 1})), Model: safetensors.Dir(dir), Rows: data})
	if got := evalLoss(t, merged, data); math.Abs(got-want) > 1e-5 {
		t.Errorf("merged the loss is %v, was %v", got, want)
	}
	if matches, _ := filepath.Glob(filepath.Join(dir, "adapter*")); len(matches) > 0 {
		t.Errorf("a merged model has %v", matches)
	}
}

// TestUnfrozen: what is named learns, the rest keeps its bits, and a name that means nothing is refused.
func TestUnfrozen(t *testing.T) {
	files, data := base(t, tiny.Shape{Tied: true}), lesson(6)
	spec := valid(t, tinySpec(job.Spec{MaxSteps: 2, UnfrozenParameters: []string{`model\.layers\.1\.mlp`, `model\.norm`}}))
	tr := newTrainer(t, trainer.Config{Spec: spec, Model: files, Rows: data})
	l, err := tr.Layout()
	if err != nil {
		t.Fatal(err)
	}
	re := regexp.MustCompile(`^model\.(layers\.1\.mlp\.(gate|up|down)_proj|norm)\.weight$`)
	for _, p := range l.Params {
		if !re.MatchString(p.Name) {
			t.Errorf("%s learns", p.Name)
		}
	}
	if len(l.Params) != 4 {
		t.Errorf("%d weights learn", len(l.Params))
	}
	before := evalLoss(t, tr, data)
	train(t, tr, math.MaxUint64)
	if after := evalLoss(t, tr, data); !(after < before) {
		t.Errorf("loss %v, was %v", after, before)
	}
	checkFrozen(t, export(t, tr, ""), string(files.(safetensors.Dir)), re)
	bad := valid(t, tinySpec(job.Spec{UnfrozenParameters: []string{`model\.norm`, `lm_head`}}))
	if _, err := trainer.Layout(bad, files, nil); err == nil || !strings.Contains(err.Error(), `"lm_head" matches no weight`) {
		t.Errorf("a pattern without a match: %v", err)
	}
}

// checkFrozen holds two model directories against each other: weights named by learned differ, all others are equal.
func checkFrozen(t *testing.T, got, want string, learned *regexp.Regexp) {
	t.Helper()
	a, err := safetensors.OpenSet(safetensors.Dir(got))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := safetensors.OpenSet(safetensors.Dir(want))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, name := range b.Names() {
		x, _ := b.Tensor(name)
		u, v := make([]float32, x.Elems()), make([]float32, x.Elems())
		if err := a.ReadF32(name, u); err != nil {
			t.Fatal(err)
		}
		if err := b.ReadF32(name, v); err != nil {
			t.Fatal(err)
		}
		same := true
		for i := range u {
			same = same && u[i] == v[i]
		}
		if same == learned.MatchString(name) {
			t.Errorf("%s: unchanged is %v", name, same)
		}
	}
}

// TestVirtualTokensTakeRoom: rows that would leave the model's positions are refused, not read past the end.
func TestVirtualTokensTakeRoom(t *testing.T) {
	files := base(t, tiny.Shape{Type: "gpt2", Context: 16})
	for _, kind := range []string{"prefix", "prompt"} {
		for n, ok := range map[int]bool{12: true, 13: false} {
			row := make([]int32, n)
			tr := newTrainer(t, trainer.Config{Spec: valid(t, tinySpec(kinds[kind])), Model: files, Rows: rows{row}})
			if _, err := tr.Eval(t.Context(), rows{row}); (err == nil) != ok {
				t.Errorf("%s, %d tokens: %v", kind, n, err)
			}
		}
	}
}

// TestMethodsInBF16: with products in bfloat16 each method takes about the steps that it takes in float32.
func TestMethodsInBF16(t *testing.T) {
	data := lesson(12)
	for _, shape := range []tiny.Shape{{KVHeads: 2}, {Type: "gpt2", Tied: true}} {
		files := base(t, shape)
		for name, spec := range kinds {
			if name == "dora" {
				spec.LoraModulesToSave = []string{"lm_head"}
			}
			var curves [2][]trainer.StepReport
			for i, dtype := range []string{job.FP32, job.BF16} {
				s := tinySpec(spec)
				s.MaxSteps, s.Optimizer.LR, s.DType = 4, 1e-2, dtype
				curves[i] = train(t, newTrainer(t, trainer.Config{Spec: valid(t, s), Model: files, Rows: data}), math.MaxUint64)
			}
			for i, want := range curves[0] {
				if got := curves[1][i]; math.Abs(got.Loss-want.Loss) > 1e-2 || math.Abs(got.GradNorm/want.GradNorm-1) > 0.05 {
					t.Errorf("%s %s, step %d: loss %v, norm %v; in float32 %v, %v", shape.Type, name, i+1, got.Loss, got.GradNorm, want.Loss, want.GradNorm)
				}
			}
		}
	}
}
