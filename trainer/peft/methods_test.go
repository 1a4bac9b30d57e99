package peft_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// methods are all of them, small.
func methods() map[string]peft.Config {
	return map[string]peft.Config{
		"lora":                {Method: job.AdapterLora, R: 3, Alpha: 6, All: true},
		"lora, defaults":      {Method: job.AdapterLora, R: 2, Alpha: 2},
		"rslora":              {Method: job.AdapterLora, R: 4, Alpha: 6, RSLoRA: true, All: true},
		"lora, saved modules": {Method: job.AdapterLora, R: 2, Alpha: 2, Saved: []string{"lm_head"}},
		"dora":                {Method: job.AdapterDora, R: 3, Alpha: 6, All: true},
		"dora, dropout":       {Method: job.AdapterDora, R: 3, Alpha: 6, Dropout: 0.2, All: true},
		"ia3":                 {Method: job.AdapterIA3},
		"bottleneck":          {Method: job.AdapterBottleneck, Bottleneck: job.Bottleneck{Reduction: 4, Sites: []string{"mlp"}, Act: job.SiLU}},
		"bottleneck, houlsby": {Method: job.AdapterBottleneck, Bottleneck: job.Bottleneck{Reduction: 4, Sites: []string{"attn", "mlp"}, Act: job.GELU}},
		"bottleneck, relu":    {Method: job.AdapterBottleneck, Bottleneck: job.Bottleneck{Reduction: 4, Sites: []string{"attn"}, Act: job.ReLU}},
		"prefix":              {Method: job.AdapterPrefix, Prefix: job.Prefix{Tokens: 5}},
		"prefix, projection":  {Method: job.AdapterPrefix, Prefix: job.Prefix{Tokens: 5, Projection: true, Hidden: 12}},
		"prompt":              {Method: job.AdapterPrompt, Prompt: job.Prompt{Tokens: 5}},
		"prompt, text":        {Method: job.AdapterPrompt, Prompt: job.Prompt{Tokens: 5}, InitIDs: []int32{7, 8, 9}},
	}
}

// families cover each way in which layers are stored and heads are shared.
var families = map[string]tiny.Shape{
	"llama":       {KVHeads: 2, Std: 0.2, Scatter: true},
	"llama, tied": {Tied: true, Std: 0.2, Scatter: true},
	"qwen2":       {Type: "qwen2", KVHeads: 2, Std: 0.2, Scatter: true},
	"gpt2":        {Type: "gpt2", Tied: true, Std: 0.2, Scatter: true},
	"mistral":     {Type: "mistral", KVHeads: 1, Window: 3, Std: 0.2, Scatter: true},
	"qwen3":       {Type: "qwen3", KVHeads: 2, Std: 0.2, Scatter: true},
	"gemma2":      {Type: "gemma2", Tied: true, KVHeads: 2, Window: 4, Std: 0.2, Scatter: true},
	"phi3":        {Type: "phi3", KVHeads: 2, Window: 5, Std: 0.2, Scatter: true},
}

// starting says whether a fresh adapter changes the model's output.
func starting(name string) bool {
	return strings.HasPrefix(name, "prefix") || strings.HasPrefix(name, "prompt")
}

func each(t *testing.T, f func(t *testing.T, name string, m *model.Model, c peft.Config)) {
	for family, shape := range families {
		for name, c := range methods() {
			t.Run(family+"/"+name, func(t *testing.T) { f(t, name, openTiny(t, shape), c) })
		}
	}
}

func newAdapter(t *testing.T, m *model.Model, c peft.Config) peft.Adapter {
	t.Helper()
	a, err := peft.New(m, c, 5)
	if err != nil {
		t.Fatal(err)
	}
	return a
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

func evaluated(t *testing.T, s *stage.Stage) float64 {
	t.Helper()
	sums, err := s.Eval(context.Background(), s.Still(), batch())
	if err != nil {
		t.Fatal(err)
	}
	return sums.Loss
}

// scatter moves all trained weights from where they start.
func scatter(t *testing.T, s *stage.Stage) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	w := make([]float32, s.W.Cols)
	if err := s.Stream.Download(w, s.W); err != nil {
		t.Fatal(err)
	}
	for i := range w {
		w[i] += float32(rng.NormFloat64() * 0.1)
	}
	s.Stream.Upload(s.W, w)
}

// TestIdentityAtInit: a fresh adapter changes no bit of the output, unless it puts something before the text.
func TestIdentityAtInit(t *testing.T) {
	each(t, func(t *testing.T, name string, m *model.Model, c peft.Config) {
		base, err := stage.New(device(t), m, nil, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		seqs := batch()
		rows := 7 + 1 + 12
		want, got := make([]float32, rows*m.Config.Vocab), make([]float32, rows*m.Config.Vocab)
		s := onCPU(t, m, newAdapter(t, m, c))
		if starting(name) {
			if a, b := evaluated(t, s), evaluated(t, base); a == b || math.Abs(a-b) > 60 {
				t.Errorf("loss %v with the adapter, %v without", a, b)
			}
			return
		}
		for _, x := range []struct {
			s   *stage.Stage
			dst []float32
		}{{base, want}, {s, got}} {
			if err := x.s.Logits(context.Background(), seqs, nil, x.dst); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(got, want) {
			t.Error("a fresh adapter changes logits")
		}
	})
}

// TestGradients holds every gradient against central differences of the loss along a random direction. The losses are
// float32, so agreement is to some thousandths, which no wrong formula reaches. The norm of DoRA is held constant, so
// its A and B have another gradient by design: TestDoRAGradient has them.
func TestGradients(t *testing.T) {
	each(t, func(t *testing.T, name string, m *model.Model, c peft.Config) {
		s := onCPU(t, m, newAdapter(t, m, c))
		scatter(t, s)
		g := gradient(t, s)
		rng := rand.New(rand.NewPCG(5, 6))
		for _, p := range s.Train {
			if c.Method == job.AdapterDora && !strings.HasSuffix(p.Name, "magnitude_vector") {
				continue
			}
			tolerance := 1e-2
			if name == "bottleneck, relu" {
				tolerance = 0.15 // some units lie near the corner; the op itself is tested beside it
			}
			checkDirection(t, s, p, g, tolerance, rng)
		}
	})
}

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

func checkDirection(t *testing.T, s *stage.Stage, p *autograd.Param, g []float32, tolerance float64, rng *rand.Rand) {
	t.Helper()
	w := value(t, s, p)
	dir := make([]float32, len(w))
	want := 0.0
	for i := range dir {
		dir[i] = float32(math.Copysign(1, float64(g[p.Off+i])) * (0.5 + rng.Float64())) // uphill, so that nothing cancels
		want += float64(g[p.Off+i]) * float64(dir[i])
	}
	if want == 0 {
		t.Errorf("%s has no gradient", p.Name)
		return
	}
	h := min(0.05/want, 3e-3) // the loss moves by about 0.1 in all, float32 sees 1e-5 of it
	shifted := func(h float64) float64 {
		moved := slices.Clone(w)
		for i := range w {
			moved[i] += float32(h) * dir[i]
		}
		s.Stream.Upload(s.W.SliceCols(p.Off, p.Off+p.Len()), moved)
		return loss(t, s)
	}
	got := (shifted(h) - shifted(-h)) / (2 * h)
	shifted(0)
	if math.Abs(got/want-1) > tolerance {
		t.Errorf("%s: differences give %.6g, the gradient %.6g", p.Name, got, want)
	}
}

// TestCheckpointed: blocks that run twice give the same bits.
func TestCheckpointed(t *testing.T) {
	each(t, func(t *testing.T, name string, m *model.Model, c peft.Config) {
		s := onCPU(t, m, newAdapter(t, m, c))
		scatter(t, s)
		want := gradient(t, s)
		s.Checkpoint = true
		if !slices.Equal(gradient(t, s), want) {
			t.Error("checkpoints change the gradient")
		}
	})
}

// TestRoundTrip: what is saved comes back with the bits that it had, and acts the same.
func TestRoundTrip(t *testing.T) {
	each(t, func(t *testing.T, name string, m *model.Model, c peft.Config) {
		a := newAdapter(t, m, c)
		s := onCPU(t, m, a)
		scatter(t, s)
		dir := t.TempDir()
		if err := a.Save(dir, "base", func(p *autograd.Param) []float32 { return value(t, s, p) }); err != nil {
			t.Fatal(err)
		}
		back, err := peft.Open(m, safetensors.Dir(dir), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer back.Close()
		if c.Prefix.Projection {
			c.Prefix = job.Prefix{Tokens: c.Prefix.Tokens}
		} else {
			for i, p := range a.Weights() {
				if q := back.Weights()[i]; q.Name != p.Name || !slices.Equal(start(t, back, q), value(t, s, p)) {
					t.Errorf("%s comes back as another", p.Name)
				}
			}
		}
		got, want := evaluated(t, onCPU(t, m, back)), evaluated(t, s)
		if got != want && !(c.Method == job.AdapterPrefix && math.Abs(got-want) < 1e-4) {
			t.Errorf("loss %v, was %v", got, want)
		}
	})
}

// TestMerge: the model with the adapter in its weights is the model with the adapter beside them.
func TestMerge(t *testing.T) {
	each(t, func(t *testing.T, name string, m *model.Model, c peft.Config) {
		a := newAdapter(t, m, c)
		mg, ok := a.(peft.Merger)
		if !ok {
			if !starting(name) && c.Method != job.AdapterBottleneck {
				t.Fatal("cannot be merged")
			}
			return
		}
		s := onCPU(t, m, a)
		scatter(t, s)
		merged := merge(t, m, s, mg)
		if got, want := evaluated(t, merged), evaluated(t, s); math.Abs(got-want) > 1e-4*math.Abs(want) {
			t.Errorf("merged the loss is %v, was %v", got, want)
		}
	})
}

// merge is the stage of the model alone with what the adapter makes of its weights.
func merge(t *testing.T, m *model.Model, s *stage.Stage, a peft.Merger) *stage.Stage {
	t.Helper()
	n := 0
	values := map[*autograd.Param][]float32{}
	for _, p := range m.Params {
		w := value(t, s, p)
		a.Merge(p, w, func(q *autograd.Param) []float32 { return value(t, s, q) })
		values[p] = w
	}
	for _, p := range m.Params {
		p.Off = n
		n += p.Len()
	}
	out, err := stage.New(device(t), m, nil, m.Params, n)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params {
		out.Stream.Upload(out.W.SliceCols(p.Off, p.Off+p.Len()), values[p])
	}
	return out
}

// TestNewRefusesMethods: nonsense is refused by the key that has it.
func TestNewRefusesMethods(t *testing.T) {
	m := openTiny(t, tiny.Shape{})
	for want, c := range map[string]peft.Config{
		"lora_modules_to_save: this llama has no module": {R: 2, Alpha: 2, Saved: []string{"wte"}},
		"which the adapter changes already":              {R: 2, Alpha: 2, Saved: []string{"q_proj"}},
		"ia3.target_modules":                             {Method: job.AdapterIA3, Targets: []string{"c_attn"}},
		"ia3.feedforward_modules":                        {Method: job.AdapterIA3, Targets: []string{"k_proj"}, FeedForward: []string{"up_proj"}},
		"bottleneck.reduction":                           {Method: job.AdapterBottleneck, Bottleneck: job.Bottleneck{Reduction: 1e6, Sites: []string{"mlp"}, Act: job.ReLU}},
		"bottleneck.act":                                 {Method: job.AdapterBottleneck, Bottleneck: job.Bottleneck{Reduction: 2, Sites: []string{"mlp"}, Act: "tanh"}},
		"prefix.tokens":                                  {Method: job.AdapterPrefix, Prefix: job.Prefix{Tokens: 255}},
		"prompt.tokens":                                  {Method: job.AdapterPrompt},
		"prompt.init_text":                               {Method: job.AdapterPrompt, Prompt: job.Prompt{Tokens: 2}, InitIDs: []int32{1 << 20}},
		"no method":                                      {Method: "loha"},
	} {
		if _, err := peft.New(m, c, 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}
