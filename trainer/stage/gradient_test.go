package stage_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// shapes cover each branch of the forward passes.
var shapes = map[string]tiny.Shape{
	"llama":         {KVHeads: 2},
	"llama, tied":   {Tied: true},
	"mistral":       {Type: "mistral", Window: 3},
	"qwen2":         {Type: "qwen2", KVHeads: 1},
	"gpt2":          {Type: "gpt2", Tied: true},
	"gpt2, untied":  {Type: "gpt2"},
	"qwen3":         {Type: "qwen3", KVHeads: 2},
	"gemma2":        {Type: "gemma2", Tied: true, KVHeads: 2, Window: 3},
	"phi3":          {Type: "phi3", KVHeads: 2, Window: 4},
	"odd widths":    {Hidden: 24, Heads: 3, Inner: 37, Layers: 1},
	"one head wide": {Hidden: 16, Heads: 1, Layers: 3},
}

func openTiny(t *testing.T, s tiny.Shape) *model.Model {
	t.Helper()
	dir := t.TempDir()
	s.Std, s.Scatter = 0.2, true
	if err := tiny.Write(dir, s, 7); err != nil {
		t.Fatal(err)
	}
	m, err := model.Open(safetensors.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func newStage(t *testing.T, m *model.Model, a stage.Adapter, trained []*autograd.Param) *stage.Stage {
	t.Helper()
	n := 0
	for _, p := range trained {
		p.Off = n
		n += p.Len()
	}
	s, err := stage.New(modeltest.Device(t), m, a, trained, n)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// batch is three sequences of different lengths, some of whose tokens are no targets.
func batch() (seqs []model.Sequence) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i, n := range []int{7, 1, 12} {
		ids := make([]int32, n)
		for t := range ids {
			ids[t] = int32(rng.IntN(tiny.Bytes))
		}
		labels := slices.Clone(ids)
		labels[n/2] = -100
		seqs = append(seqs, model.Sequence{IDs: ids, Target: objective.Targets(labels), Key: int32(40 + i)})
	}
	return seqs
}

func loss(t *testing.T, s *stage.Stage) float64 {
	t.Helper()
	sums, err := s.Forward(context.Background(), 3, batch())
	if err != nil {
		t.Fatal(err)
	}
	return sums.Loss
}

// gradient is the whole gradient of loss.
func gradient(t *testing.T, s *stage.Stage) []float32 {
	t.Helper()
	s.ZeroGrad()
	loss(t, s)
	if err := s.Backward(context.Background()); err != nil {
		t.Fatal(err)
	}
	g := make([]float32, s.G.Cols)
	if err := s.Stream.Download(g, s.G); err != nil {
		t.Fatal(err)
	}
	return g
}

// TestGradients holds every weight's gradient against central differences of the loss along a random direction. The
// losses are float32, so agreement is to some thousandths, which no wrong formula reaches.
func TestGradients(t *testing.T) {
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			m := openTiny(t, shape)
			checkDirections(t, newStage(t, m, nil, m.Params))
		})
		t.Run(name+", lora", func(t *testing.T) {
			m := openTiny(t, shape)
			l, err := peft.New(m, peft.Config{R: 3, Alpha: 6, Dropout: 0.3, All: true}, 5)
			if err != nil {
				t.Fatal(err)
			}
			s := newStage(t, m, l, l.Weights())
			scatter(t, s)
			checkDirections(t, s)
		})
	}
}

// scatter gives all trained weights random values, so that B is not zero.
func scatter(t *testing.T, s *stage.Stage) {
	rng := rand.New(rand.NewPCG(3, 4))
	w := make([]float32, s.W.Cols)
	for i := range w {
		w[i] = float32(rng.NormFloat64() * 0.2)
	}
	s.Stream.Upload(s.W, w)
}

func checkDirections(t *testing.T, s *stage.Stage) {
	t.Helper()
	g := gradient(t, s)
	rng := rand.New(rand.NewPCG(5, 6))
	for _, p := range s.Train {
		w, err := s.Value(p)
		if err != nil {
			t.Fatal(err)
		}
		dir := make([]float32, len(w))
		want, size := 0.0, 0.0
		for i := range dir {
			dir[i] = float32(math.Copysign(1, float64(g[p.Off+i])) * (0.5 + rng.Float64())) // uphill, so that nothing cancels
			want += float64(g[p.Off+i]) * float64(dir[i])
			size += math.Abs(float64(g[p.Off+i]))
		}
		if size == 0 {
			t.Errorf("%s has no gradient", p.Name)
			continue
		}
		h := min(0.05/want, 3e-3) // the loss moves by about 0.1 in all, float32 sees 1e-5 of it
		got := (shifted(t, s, p, w, dir, h) - shifted(t, s, p, w, dir, -h)) / (2 * h)
		if math.Abs(got/want-1) > 5e-3 {
			t.Errorf("%s: differences give %.6g, the gradient %.6g", p.Name, got, want)
		}
		shifted(t, s, p, w, dir, 0)
	}
}

// shifted is the loss with w + h·dir for p.
func shifted(t *testing.T, s *stage.Stage, p *autograd.Param, w, dir []float32, h float64) float64 {
	t.Helper()
	moved := make([]float32, len(w))
	for i := range w {
		moved[i] = w[i] + float32(h)*dir[i]
	}
	s.Stream.Upload(s.W.SliceCols(p.Off, p.Off+p.Len()), moved)
	return loss(t, s)
}

// TestCheckpoint runs blocks twice and gets the same bits.
func TestCheckpoint(t *testing.T) {
	for name, shape := range shapes {
		m := openTiny(t, shape)
		s := newStage(t, m, nil, m.Params)
		want := gradient(t, s)
		s.Checkpoint = true
		if !slices.Equal(gradient(t, s), want) {
			t.Errorf("%s: checkpoints change the gradient", name)
		}
		m = openTiny(t, shape)
		l, err := peft.New(m, peft.Config{R: 2, Alpha: 4, Dropout: 0.2}, 5)
		if err != nil {
			t.Fatal(err)
		}
		s = newStage(t, m, l, l.Weights())
		scatter(t, s)
		want = gradient(t, s)
		s.Checkpoint = true
		if !slices.Equal(gradient(t, s), want) {
			t.Errorf("%s: checkpoints change the gradient of an adapter", name)
		}
	}
}

// TestRowsAreIndependent: the gradient of a batch is that of its rows, one after the other.
func TestRowsAreIndependent(t *testing.T) {
	m := openTiny(t, shapes["llama"])
	s := newStage(t, m, nil, m.Params)
	want := gradient(t, s)
	s.ZeroGrad()
	for _, q := range batch() {
		if _, err := s.Forward(context.Background(), 3, []model.Sequence{q}); err != nil {
			t.Fatal(err)
		}
		if err := s.Backward(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]float32, len(want))
	if err := s.Stream.Download(got, s.G); err != nil {
		t.Fatal(err)
	}
	var d, n float64
	for i := range got {
		d += math.Pow(float64(got[i]-want[i]), 2)
		n += math.Pow(float64(want[i]), 2)
	}
	if d > n*1e-11 {
		t.Errorf("rows one by one differ by %.2g", math.Sqrt(d/n))
	}
}
