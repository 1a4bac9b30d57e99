package peft_test

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// adapted opens the reference base and adapter with the adapter trained.
func adapted(t *testing.T) (*model.Model, *peft.LoRA, *stage.Stage) {
	t.Helper()
	m, err := model.Open(safetensors.Dir(modeltest.Data(t, "reference", "models", "llama_gqa")))
	if err != nil {
		t.Fatal(err)
	}
	l, err := peft.Open(m, safetensors.Dir(modeltest.Data(t, "reference", "lora")), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(); l.Close() })
	return m, l.(*peft.LoRA), onCPU(t, m, l)
}

func device(t *testing.T) kernels.Device { t.Helper(); return modeltest.Device(t) }

func onCPU(t *testing.T, m *model.Model, a peft.Adapter) *stage.Stage {
	t.Helper()
	n := 0
	for _, p := range a.Weights() {
		p.Off = n
		n += p.Len()
	}
	s, err := stage.New(modeltest.Device(t), m, a, a.Weights(), n)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func reference(t *testing.T) (seqs []model.Sequence, io *safetensors.File) {
	t.Helper()
	io = modeltest.File(t, modeltest.Data(t, "reference", "lora", "io.safetensors"))
	labels := modeltest.Rows(t, io, "labels")
	for i, ids := range modeltest.Rows(t, io, "input_ids") {
		seqs = append(seqs, model.Sequence{IDs: ids, Target: objective.Targets(labels[i])})
	}
	return seqs, io
}

func TestReferenceLoRA(t *testing.T) {
	_, l, s := adapted(t)
	seqs, io := reference(t)
	var meta struct {
		Loss   float64 `json:"loss_f64"`
		LossRS float64 `json:"loss_rslora_f64"`
	}
	modeltest.JSON(t, modeltest.Data(t, "reference", "lora", "meta.json"), &meta)
	checkLogits(t, s, seqs, modeltest.F64(t, io, "logits_f64"))

	sums, err := s.Forward(context.Background(), 1, seqs)
	if err == nil {
		err = s.Backward(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	if d := math.Abs(sums.Loss/float64(sums.Tokens) - meta.Loss); d > 1e-5 {
		t.Errorf("loss differs by %.2g", d)
	}
	grads := modeltest.File(t, modeltest.Data(t, "reference", "lora", "grads_f64.safetensors"))
	for _, p := range l.Params {
		if d := relL2(grad(t, s, p), modeltest.F64(t, grads, p.Name), float64(sums.Tokens)); d > 1e-5 {
			t.Errorf("gradient of %s differs by %.2g", p.Name, d)
		}
	}

	l.RSLoRA = true
	checkLogits(t, s, seqs, modeltest.F64(t, io, "logits_rslora_f64"))
	if sums, err = s.Eval(context.Background(), s.Still(), seqs); err != nil || math.Abs(sums.Loss/float64(sums.Tokens)-meta.LossRS) > 1e-5 {
		t.Errorf("rslora: %+v, %v, want loss %v", sums, err, meta.LossRS)
	}
}

func TestReferenceMerge(t *testing.T) {
	m, l, s := adapted(t)
	want := modeltest.File(t, filepath.Join(modeltest.Data(t, "reference", "lora"), "merged_f64.safetensors"))
	for _, lin := range m.Linear {
		if l.Of(lin.W) == nil {
			continue
		}
		w := make([]float32, lin.W.Len())
		if err := m.Read(lin.W, w); err != nil {
			t.Fatal(err)
		}
		l.Merge(lin.W, w, func(p *autograd.Param) []float32 { return value(t, s, p) })
		if d := relL2(w, modeltest.F64(t, want, lin.W.Name), 1); d > 1e-7 {
			t.Errorf("merged %s differs by %.2g", lin.Path, d)
		}
	}
}

func checkLogits(t *testing.T, s *stage.Stage, seqs []model.Sequence, want []float64) {
	t.Helper()
	got, d := make([]float32, len(want)), 0.0
	if err := s.Logits(context.Background(), seqs, nil, got); err != nil {
		t.Fatal(err)
	}
	for i, x := range got {
		d = max(d, math.Abs(float64(x)-want[i]))
	}
	if d > 1e-4 {
		t.Errorf("logits differ by %.2g", d)
	}
}

func value(t *testing.T, s *stage.Stage, p *autograd.Param) []float32 {
	t.Helper()
	v, err := s.Value(p)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func grad(t *testing.T, s *stage.Stage, p *autograd.Param) []float32 {
	t.Helper()
	g := make([]float32, p.Len())
	if err := s.Stream.Download(g, s.G.SliceCols(p.Off, p.Off+p.Len())); err != nil {
		t.Fatal(err)
	}
	return g
}

// relL2 is |got/f - want| / |want|.
func relL2(got []float32, want []float64, f float64) float64 {
	var d, n float64
	for i, x := range got {
		e := float64(x)/f - want[i]
		d, n = d+e*e, n+want[i]*want[i]
	}
	return math.Sqrt(d / n)
}
