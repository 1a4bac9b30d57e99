package peft_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// other is the reference values of methods that are not LoRA.
type other struct {
	t    *testing.T
	m    *model.Model
	file *safetensors.File
	meta map[string]float64
	seqs []model.Sequence
}

func openOther(t *testing.T) *other {
	t.Helper()
	m, err := model.Open(safetensors.Dir(modeltest.Data(t, "reference", "models", "llama_gqa")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	r := &other{t: t, m: m, file: modeltest.File(t, modeltest.Data(t, "reference", "peft_other", "peft_other.safetensors"))}
	modeltest.JSON(t, modeltest.Data(t, "reference", "peft_other", "meta.json"), &r.meta)
	for _, ids := range modeltest.Rows(t, r.file, "input_ids") {
		r.seqs = append(r.seqs, model.Sequence{IDs: ids, Target: objective.Targets(ids)})
	}
	return r
}

func (r *other) f32(name string) []float32 {
	v := modeltest.F64(r.t, r.file, name)
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}

// stored is a PEFT directory in memory.
func stored(t testing.TB, config string, tensors map[string][]float32, shapes map[string][]int, order ...string) files {
	t.Helper()
	var ts []safetensors.Tensor
	for _, n := range order {
		ts = append(ts, safetensors.Tensor{Name: n, DType: safetensors.F32, Shape: shapes[n]})
	}
	var b bytes.Buffer
	w, err := safetensors.NewWriter(&b, ts, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range ts {
		if err := w.WriteF32(x.Name, tensors[x.Name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return files{peft.ConfigFile: []byte(config), peft.WeightsFile: b.Bytes()}
}

func (r *other) open(f files) (peft.Adapter, *stage.Stage) {
	r.t.Helper()
	a, err := peft.Open(r.m, f, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { a.Close() })
	return a, onCPU(r.t, r.m, a)
}

// check holds logits of each text, mean loss and gradients against the reference.
func (r *other) check(s *stage.Stage, kind string, want map[string][]float64, tokens int64) {
	t := r.t
	t.Helper()
	logits := modeltest.F64(t, r.file, map[string]string{"prompt_tuning": "soft_prompt.logits_text_f64", "prefix_tuning": "prefix.logits_f64",
		"adapter": "adapter.logits_f64"}[kind])
	n := len(logits) / len(r.seqs)
	for i, q := range r.seqs {
		checkLogits(t, s, []model.Sequence{q}, logits[i*n:][:n])
	}
	s.ZeroGrad()
	sums, err := s.Forward(context.Background(), 1, r.seqs)
	if err == nil {
		err = s.Backward(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	if d := math.Abs(sums.Loss/float64(sums.Tokens) - r.meta[kind+"_loss"]); d > 1e-5 || sums.Tokens != tokens {
		t.Errorf("loss of %d tokens differs by %.2g", sums.Tokens, d)
	}
	for _, p := range s.Train {
		if d := relL2(grad(t, s, p), want[p.Name], float64(sums.Tokens)); !(d <= 1e-5) {
			t.Errorf("gradient of %s differs by %.2g", p.Name, d)
		}
	}
}

func TestReferencePrompt(t *testing.T) {
	r := openOther(t)
	_, s := r.open(stored(t, `{"peft_type":"PROMPT_TUNING","num_virtual_tokens":5,"token_dim":32}`,
		map[string][]float32{"prompt_embeddings": r.f32("soft_prompt")}, map[string][]int{"prompt_embeddings": {5, 32}}, "prompt_embeddings"))
	r.check(s, "prompt_tuning", map[string][]float64{"prompt_embeddings": modeltest.F64(t, r.file, "soft_prompt.grad_f64")}, 30)
}

func TestReferencePrefix(t *testing.T) {
	r := openOther(t)
	const layers, heads, n, dim = 2, 2, 5, 8
	// The reference has (layer, k or v, head, token, dim); the file (token; layer, k or v, head, dim).
	file := make([]float32, n*layers*2*heads*dim)
	want := map[string][]float64{}
	values, grads := r.f32("prefix"), modeltest.F64(t, r.file, "prefix.grad_f64")
	for i, x := range values {
		d, tok, h, part, layer := i%dim, i/dim%n, i/dim/n%heads, i/dim/n/heads%2, i/dim/n/heads/2
		file[((tok*layers+layer)*2+part)*heads*dim+h*dim+d] = x
		name := fmt.Sprintf("prompt_embeddings.layers.%d.%s", layer, []string{"key", "value"}[part])
		if want[name] == nil {
			want[name] = make([]float64, n*heads*dim)
		}
		want[name][tok*heads*dim+h*dim+d] = grads[i]
	}
	_, s := r.open(stored(t, `{"peft_type":"PREFIX_TUNING","num_virtual_tokens":5,"token_dim":16,"num_attention_heads":2,"num_layers":2}`,
		map[string][]float32{"prompt_embeddings": file}, map[string][]int{"prompt_embeddings": {n, layers * 2 * heads * dim}}, "prompt_embeddings"))
	r.check(s, "prefix_tuning", want, 30)
}

func TestReferenceBottleneck(t *testing.T) {
	r := openOther(t)
	a, err := peft.New(r.m, peft.Config{Method: job.AdapterBottleneck,
		Bottleneck: job.Bottleneck{Reduction: 32.0 / 6, Sites: []string{"mlp"}, Act: job.SiLU}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := onCPU(t, r.m, a)
	want := map[string][]float64{}
	for i := range 2 {
		for _, part := range []string{"down.weight", "down.bias", "up.weight", "up.bias"} {
			name := fmt.Sprintf("adapter.layers.%d.%s", i, part)
			p := find(t, a, fmt.Sprintf("base_model.model.model.layers.%d.mlp.adapter_%s", i, part))
			s.Stream.Upload(s.W.SliceCols(p.Off, p.Off+p.Len()), r.f32(name))
			want[p.Name] = modeltest.F64(t, r.file, name+".grad_f64")
		}
	}
	r.check(s, "adapter", want, 30)
}

func find(t *testing.T, a peft.Adapter, name string) *autograd.Param {
	t.Helper()
	for _, p := range a.Weights() {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no parameter %s", name)
	return nil
}
