package model_test

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// micro are the models with reference logits, losses and gradients in float64.
var micro = []string{"llama_gqa", "llama_gqa_tied", "llama_mha", "llama_mqa_hd", "llama3_rope", "mistral_swa", "qwen2", "gpt2"}

// oracle are the models whose values testdata/oracle/oracle.py made, for what the others lack.
var oracle = []string{"qwen3", "gemma2", "phi3", "phi3_longrope", "llama_yarn", "qwen2_yarn", "mistral_types"}

// full puts a model on the CPU with all its weights trained.
func full(t *testing.T, dir string) *stage.Stage {
	t.Helper()
	m, err := model.Open(safetensors.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	n := 0
	for _, p := range m.Params {
		p.Off = n
		n += p.Len()
	}
	s, err := stage.New(modeltest.Device(t), m, nil, m.Params, n)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sequences(t *testing.T, ids, labels [][]int32) (seqs []model.Sequence) {
	t.Helper()
	for i := range ids {
		seqs = append(seqs, model.Sequence{IDs: ids[i], Target: objective.Targets(labels[i])})
	}
	return seqs
}

func TestMicroModels(t *testing.T) {
	for _, name := range micro {
		t.Run(name, func(t *testing.T) { checkReference(t, modeltest.Data(t, "reference", "models", name)) })
	}
}

func TestOracleModels(t *testing.T) {
	for _, name := range oracle {
		t.Run(name, func(t *testing.T) { checkReference(t, filepath.Join("testdata", "oracle", name)) })
	}
}

// checkReference holds logits, losses and the gradient of every weight against a folder of float64 values.
func checkReference(t *testing.T, dir string) {
	io := modeltest.File(t, filepath.Join(dir, "io.safetensors"))
	var meta struct {
		Loss    float64 `json:"loss_f64"`
		LossAll float64 `json:"loss_all_labels_f64"`
	}
	modeltest.JSON(t, filepath.Join(dir, "meta.json"), &meta)
	s := full(t, dir)
	ids, labels := modeltest.Rows(t, io, "input_ids"), modeltest.Rows(t, io, "labels")
	seqs := sequences(t, ids, labels)

	checkLogits(t, s, seqs, modeltest.F64(t, io, "logits_f64"))
	checkLoss(t, s, sequences(t, ids, ids), meta.LossAll)
	sums := checkLoss(t, s, seqs, meta.Loss)
	checkGrads(t, s, sums, modeltest.File(t, filepath.Join(dir, "grads_f64.safetensors")))
}

func checkLogits(t *testing.T, s *stage.Stage, seqs []model.Sequence, want []float64) {
	t.Helper()
	got := make([]float32, len(want))
	if err := s.Logits(context.Background(), seqs, nil, got); err != nil {
		t.Fatal(err)
	}
	if d := maxDiff(got, want); d > 1e-4 {
		t.Errorf("logits differ by %.2g", d)
	} else {
		t.Logf("logits differ by %.2g", d)
	}
}

// checkLoss leaves the gradient of the loss in the stage.
func checkLoss(t *testing.T, s *stage.Stage, seqs []model.Sequence, want float64) objective.Sums {
	t.Helper()
	s.ZeroGrad()
	sums, err := s.Forward(context.Background(), 1, seqs)
	if err == nil {
		err = s.Backward(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	if d := math.Abs(sums.Loss/float64(sums.Tokens) - want); d > 1e-5 {
		t.Errorf("loss %v differs by %.2g", sums.Loss/float64(sums.Tokens), d)
	}
	return sums
}

func checkGrads(t *testing.T, s *stage.Stage, sums objective.Sums, ref *safetensors.File) {
	t.Helper()
	worst := 0.0
	for _, p := range s.Train {
		want := modeltest.F64(t, ref, s.Model.Stored(p).Name)
		d := relL2(grad(t, s, p, sums.Tokens), want)
		if worst = max(worst, d); d > 1e-5 {
			t.Errorf("gradient of %s differs by %.2g", p.Name, d)
		}
	}
	t.Logf("gradients differ by at most %.2g", worst)
}

// grad is the gradient of the mean over tokens.
func grad(t *testing.T, s *stage.Stage, p *autograd.Param, tokens int64) []float32 {
	t.Helper()
	g := make([]float32, p.Len())
	if err := s.Stream.Download(g, s.G.SliceCols(p.Off, p.Off+p.Len())); err != nil {
		t.Fatal(err)
	}
	for i := range g {
		g[i] /= float32(tokens)
	}
	return g
}

func maxDiff(got []float32, want []float64) (d float64) {
	for i, x := range got {
		d = max(d, math.Abs(float64(x)-want[i]))
	}
	return d
}

// relL2 is |got - want| / |want|; where want is zero, |got|.
func relL2(got []float32, want []float64) float64 {
	var d, n float64
	for i, x := range got {
		d += (float64(x) - want[i]) * (float64(x) - want[i])
		n += want[i] * want[i]
	}
	if n == 0 {
		return math.Sqrt(d)
	}
	return math.Sqrt(d / n)
}
