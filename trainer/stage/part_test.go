package stage_test

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// evenly cuts a model's row into n parts.
func evenly(m *model.Model, n int) (parts []model.Part) {
	for i := range n {
		parts = append(parts, model.Part{Lo: i * m.Row() / n, Hi: (i + 1) * m.Row() / n})
	}
	return parts
}

// setup is what a job is made of, for whole and cut runs alike.
type setup struct {
	m       *model.Model
	a       stage.Adapter
	trained []*autograd.Param
	compute dtype.Type
	each    func(*stage.Stage) // settings
}

func (u setup) place() (elems int) {
	slices.SortStableFunc(u.trained, func(a, b *autograd.Param) int { return a.Unit - b.Unit })
	for _, p := range u.trained {
		p.Off = elems
		elems += p.Len()
	}
	return elems
}

// micros are the micro-batches of a step: rows alone, together and packed.
func micros() [][]model.Sequence {
	b := batch()
	packed := slices.Clone(b[:2])
	packed[0].Key, packed[1].Key, packed[1].Offset = 7, 7, len(packed[0].IDs)
	return [][]model.Sequence{b, b[2:], packed, b[:1], b}
}

// wholeRun gives losses and gradient of a stage of all units.
func wholeRun(t *testing.T, u setup, values []float32, work [][]model.Sequence) (sums []objective.Sums, g []float32) {
	t.Helper()
	s, err := stage.NewIn(u.compute, modeltest.Device(t), u.m, u.a, u.trained, u.place())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fill(s, values)
	u.each(s)
	s.ZeroGrad()
	for _, q := range work {
		sum, err := s.Forward(context.Background(), 3, q)
		if err == nil {
			err = s.Backward(context.Background())
		}
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sum)
	}
	return sums, download(t, s, s.G)
}

func fill(s *stage.Stage, values []float32) {
	for _, sp := range s.Spans {
		if values != nil {
			s.Stream.Upload(s.W.SliceCols(sp.At, sp.At+sp.Hi-sp.Lo), values[sp.Lo:sp.Hi])
		}
	}
	s.Changed()
}

func download(t *testing.T, s *stage.Stage, from kernels.Tensor) []float32 {
	t.Helper()
	if from.None() {
		return nil
	}
	v := make([]float32, from.Len())
	if err := s.Stream.Download(v, from); err != nil {
		t.Fatal(err)
	}
	return v
}

// cutRun does the same with parts, all of whose micro-batches are on their way at a time.
func cutRun(t *testing.T, u setup, values []float32, work [][]model.Sequence, parts []model.Part) (sums []objective.Sums, g []float32) {
	t.Helper()
	ctx, dev := context.Background(), modeltest.Device(t)
	g = make([]float32, u.place())
	sums = make([]objective.Sums, len(work))
	var line []*stage.Stage
	for _, part := range parts {
		s, err := stage.NewPart(u.compute, dev, u.m, u.a, u.trained, part)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		fill(s, values)
		u.each(s)
		s.ZeroGrad()
		line = append(line, s)
	}
	for i, q := range work {
		var x []float32
		var err error
		for _, s := range line {
			if x, sums[i], err = s.Forth(ctx, i, 3, q, x); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range work {
		var d []float32
		var err error
		for k := len(line) - 1; k >= 0; k-- {
			if d, err = line[k].Back(ctx, i, d); err != nil {
				t.Fatal(err)
			}
			if d == nil {
				break
			}
		}
	}
	for _, s := range line {
		own := download(t, s, s.G)
		for _, sp := range s.Spans {
			for i := sp.Lo; i < sp.Hi; i++ {
				g[i] += own[sp.At+i-sp.Lo]
			}
		}
	}
	return sums, g
}

// TestParts: a model in parts has the losses of the whole to the bit, and its gradient; where both ends use one weight
// their shares are added in another order: here all micro-batches go forward before the first comes back.
func TestParts(t *testing.T) {
	for name, shape := range shapes {
		shape.Layers = max(shape.Layers, 3)
		t.Run(name, func(t *testing.T) {
			m := openTiny(t, shape)
			u := setup{m: m, trained: slices.Clone(m.Params), each: func(s *stage.Stage) { s.Noise = model.Noise{Alpha: 5, Seed: 9} }}
			checkParts(t, u, nil)
			u.each = func(s *stage.Stage) { s.Checkpoint = true }
			checkParts(t, u, nil)
			u.compute, u.each = dtype.BF16, func(*stage.Stage) {}
			checkParts(t, u, nil)
		})
	}
}

func checkParts(t *testing.T, u setup, values []float32) {
	t.Helper()
	work := micros()
	sums, want := wholeRun(t, u, values, work)
	for _, n := range []int{1, 2, 3, 5} {
		gotSums, got := cutRun(t, u, values, work, evenly(u.m, n))
		if !slices.Equal(gotSums, sums) {
			t.Errorf("%d parts: losses %v, want %v", n, gotSums, sums)
		}
		for _, p := range u.trained {
			shared := p.Tied || p.Unit == 0 && p.Kind == autograd.Adapter
			a, b := got[p.Off:p.Off+p.Len()], want[p.Off:p.Off+p.Len()]
			if d := apart(a, b); d > 1e-6 || d != 0 && !shared {
				t.Errorf("%d parts: gradient of %s differs by %.2g of itself", n, p.Name, d)
			}
		}
	}
}

func apart(a, b []float32) float64 {
	var d, n float64
	for i := range a {
		d += math.Pow(float64(a[i])-float64(b[i]), 2)
		n += math.Pow(float64(b[i]), 2)
	}
	if n == 0 {
		return math.Sqrt(d)
	}
	return math.Sqrt(d / n)
}

// TestPartsOfAdapters: the same with each method, whose weights alone learn.
func TestPartsOfAdapters(t *testing.T) {
	methods := map[string]peft.Config{
		"lora":       {R: 3, Alpha: 6, Dropout: 0.3, All: true},
		"lora, head": {R: 2, Alpha: 4, Saved: []string{"lm_head"}},
		"dora":       {Method: job.AdapterDora, R: 2, Alpha: 4, All: true},
		"ia3":        {Method: job.AdapterIA3},
		"bottleneck": {Method: job.AdapterBottleneck, Bottleneck: job.Bottleneck{Reduction: 4, Sites: []string{"attn", "mlp"}, Act: "relu"}},
		"prefix":     {Method: job.AdapterPrefix, Prefix: job.Prefix{Tokens: 3}},
		"projected":  {Method: job.AdapterPrefix, Prefix: job.Prefix{Tokens: 3, Projection: true, Hidden: 8}},
		"prompt":     {Method: job.AdapterPrompt, Prompt: job.Prompt{Tokens: 3}},
	}
	for name, c := range methods {
		t.Run(name, func(t *testing.T) {
			shape := shapes["llama"]
			shape.Layers = 4
			m := openTiny(t, shape)
			a, err := peft.New(m, c, 5)
			if err != nil {
				t.Fatal(err)
			}
			u := setup{m: m, a: a, trained: a.Weights(), each: func(*stage.Stage) {}}
			values := make([]float32, u.place())
			for i := range values {
				values[i] = float32(math.Sin(float64(i))) * 0.3
			}
			checkParts(t, u, values)
			u.each = func(s *stage.Stage) { s.Checkpoint = true }
			checkParts(t, u, values)
		})
	}
}

// TestPartsOfReferenceModels holds every model with reference values, in parts, against itself in one: the whole is held
// against those values in trainer/model.
func TestPartsOfReferenceModels(t *testing.T) {
	for _, name := range []string{"llama_gqa", "llama_gqa_tied", "llama_mha", "llama_mqa_hd", "llama3_rope", "mistral_swa", "qwen2", "gpt2"} {
		t.Run(name, func(t *testing.T) {
			m, err := model.Open(safetensors.Dir(modeltest.Data(t, "reference", "models", name)))
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			io := modeltest.File(t, modeltest.Data(t, "reference", "models", name, "io.safetensors"))
			var q []model.Sequence
			for _, ids := range modeltest.Rows(t, io, "input_ids") {
				q = append(q, model.Sequence{IDs: ids, Target: objective.Targets(ids)})
			}
			u := setup{m: m, trained: slices.Clone(m.Params), each: func(*stage.Stage) {}}
			work := [][]model.Sequence{q, q[:1]}
			sums, want := wholeRun(t, u, nil, work)
			for _, n := range []int{1, 2, 3, 5} {
				n = min(n, m.Row())
				got, g := cutRun(t, u, nil, work, evenly(m, n))
				if d := apart(g, want); !slices.Equal(got, sums) || d > 1e-6 {
					t.Errorf("%d parts: losses %v, want %v; gradient differs by %.2g", n, got, sums, d)
				}
			}
		})
	}
}
