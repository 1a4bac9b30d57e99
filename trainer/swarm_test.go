package trainer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// base writes a small model.
func base(t testing.TB, s tiny.Shape) model.Files {
	t.Helper()
	dir := t.TempDir()
	if err := tiny.Write(dir, s, 11); err != nil {
		t.Fatal(err)
	}
	return safetensors.Dir(dir)
}

// lesson is rows that can be learned: each goes on from its first token in steps of its own.
func lesson(n int) rows {
	rng := rand.New(rand.NewPCG(9, 9))
	r := make(rows, n)
	for i := range r {
		at, by := rng.IntN(200), 1+rng.IntN(3)
		for range 10 + rng.IntN(10) {
			r[i] = append(r[i], int32(3+at%256))
			at += by
		}
	}
	return r
}

func tinySpec(s job.Spec) job.Spec {
	s.GlobalBatchSize, s.MicroBatchSize, s.Optimizer.LR, s.Seed = 6, 2, 3e-3, 5
	return s
}

// group is members that train together without a network. Its collective is the simplest that keeps the promises of
// trainer.Collective.
type group struct {
	size   int
	rows   int
	spec   *job.Spec
	disown uint64 // the round in which member 0's first work is lost

	mu     sync.Mutex // guards what follows
	wake   *sync.Cond
	round  uint64
	pieces []held
	passed int // members that have left the round
}

type held struct {
	member int
	p      trainer.Piece
	u      []float32
	copy   []float32
}

func newGroup(size, rows int, spec *job.Spec) *group {
	g := &group{size: size, rows: rows, spec: spec, round: 1}
	g.wake = sync.NewCond(&g.mu)
	return g
}

// member is one member's Source and Collective.
type member struct {
	*group
	id      int
	next    uint64
	again   bool // the positions of the lost work come again
	t       *testing.T
	attempt uint32
}

func (m *member) Next(context.Context) (trainer.Work, error) {
	if m.next > m.spec.Steps(uint64(m.rows)) {
		return trainer.Work{}, io.EOF
	}
	lo, hi := m.spec.Batch(uint64(m.rows), m.next)
	n := hi - lo
	part := shard.Range{Lo: lo + n*uint64(m.id)/uint64(m.size), Hi: lo + n*uint64(m.id+1)/uint64(m.size)}
	w := trainer.Work{Round: m.next, Attempt: m.attempt, Positions: []shard.Range{part}}
	m.next++
	return w, nil
}

func (m *member) Reduce(_ context.Context, p trainer.Piece, u []float32) error {
	if p.Round == m.disown && m.id == 0 && p.Attempt == 0 {
		m.next, m.attempt = p.Round, 1
		return fmt.Errorf("reduce: %w", trainer.ErrAttempt)
	}
	m.attempt = 0
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.round != p.Round {
		m.wake.Wait()
	}
	m.pieces = append(m.pieces, held{m.id, p, u, slices.Clone(u)})
	m.wake.Broadcast()
	return nil
}

func (m *member) Cut(_ context.Context, round uint64) ([]trainer.Chunk, trainer.Totals, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.pieces) < m.size {
		m.wake.Wait()
	}
	slices.SortFunc(m.pieces, func(a, b held) int { return a.member - b.member })
	tot := trainer.Totals{Peers: m.size}
	sum := make([]float32, len(m.pieces[0].u))
	for _, h := range m.pieces {
		if !slices.Equal(h.u, h.copy) {
			m.t.Errorf("round %d: a contribution changed before the round was over", round)
		}
		tot.Tokens += h.p.Tokens
		tot.Loss += h.p.Loss
		for i, x := range h.u {
			sum[i] += x
		}
	}
	for _, x := range sum {
		tot.SumSq += float64(x) * float64(x)
	}
	return []trainer.Chunk{{Lo: 0, Hi: len(sum), V: sum}}, tot, nil
}

func (m *member) Gather(_ context.Context, _ uint64, own []trainer.Chunk, dst []float32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var tokens int64
	for _, h := range m.pieces {
		tokens += h.p.Tokens
	}
	for i, x := range own[0].V {
		dst[i] = float32(float64(x) / float64(tokens))
	}
	round := m.round
	if m.passed++; m.passed == m.size {
		m.pieces, m.passed, m.round = nil, 0, m.round+1
		m.wake.Broadcast()
	}
	for m.round == round { // all of them leave the round together
		m.wake.Wait()
	}
	return nil
}

func hash(t testing.TB, tr *trainer.Trainer) [32]byte {
	t.Helper()
	h, err := tr.StateHash()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestMembersAgree: three members reach the same bits, and the losses of one alone, also when a round's work is lost
// and computed again.
func TestMembersAgree(t *testing.T) {
	files, data := base(t, tiny.Shape{KVHeads: 2}), lesson(20)
	for name, spec := range map[string]job.Spec{
		"full": {NumEpochs: 2.5}, "lora": {NumEpochs: 2.5, Adapter: job.AdapterLora, LoraTargetLinear: true, LoraDropout: 0.1},
		"dora":      {NumEpochs: 2.5, Adapter: job.AdapterDora, LoraDropout: 0.1},
		"ia3":       {NumEpochs: 2.5, Adapter: job.AdapterIA3},
		"houlsby":   {NumEpochs: 2.5, Adapter: job.AdapterBottleneck, Bottleneck: job.Bottleneck{Sites: []string{"attn", "mlp"}}},
		"prefix":    {NumEpochs: 2.5, Adapter: job.AdapterPrefix, Prefix: job.Prefix{Tokens: 3, Projection: true}},
		"prompt":    {NumEpochs: 2.5, Adapter: job.AdapterPrompt, Prompt: job.Prompt{InitText: "abc"}},
		"modules":   {NumEpochs: 2.5, Adapter: job.AdapterLora, LoraModulesToSave: []string{"embed_tokens", "lm_head", "input_layernorm"}},
		"unfrozen":  {NumEpochs: 2.5, UnfrozenParameters: []string{`.*norm`, `lm_head`}},
		"adamw8bit": {NumEpochs: 2.5, Optimizer: job.Optimizer{Name: job.AdamW8}},
		"lion":      {NumEpochs: 2.5, Optimizer: job.Optimizer{Name: job.Lion}},
		"sophia":    {NumEpochs: 2.5, Optimizer: job.Optimizer{Name: job.Sophia, HessianEvery: 4}},
		"sgd":       {NumEpochs: 2.5, Optimizer: job.Optimizer{Name: job.SGD, Momentum: 0.9}},
		"adafactor": {NumEpochs: 2.5, Optimizer: job.Optimizer{Name: job.Adafactor}},
	} {
		t.Run(name, func(t *testing.T) {
			sp := valid(t, tinySpec(spec))
			alone := train(t, newTrainer(t, trainer.Config{Spec: sp, Model: files, Rows: data}), math.MaxUint64)
			g := newGroup(3, len(data), sp)
			g.disown = 4
			var wg sync.WaitGroup
			var trainers [3]*trainer.Trainer
			var reports [3][]trainer.StepReport
			for i := range trainers {
				trainers[i] = newTrainer(t, trainer.Config{Spec: sp, Model: files, Rows: data})
				wg.Go(func() {
					m := &member{group: g, id: i, next: 1, t: t}
					err := trainers[i].Run(context.Background(), m, m, func(r trainer.StepReport) { reports[i] = append(reports[i], r) })
					if err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if want := hash(t, trainers[0]); hash(t, trainers[1]) != want || hash(t, trainers[2]) != want {
				t.Error("members have different bits")
			}
			if len(reports[1]) != 9 || len(alone) != 9 { // ceil(20·2.5/6)
				t.Fatalf("%d and %d steps, want 9", len(reports[1]), len(alone))
			}
			for i, r := range reports[1] {
				limit := 1e-5
				if spec.Optimizer.Name != "" { // a sign may turn, a code may be the next
					limit = 1e-3
				}
				if d := math.Abs(r.Loss - alone[i].Loss); d > limit || r.Tokens != alone[i].Tokens || r.Peers != 3 {
					t.Errorf("step %d: %+v, alone %+v", r.Step, r, alone[i])
				}
			}
		})
	}
}

// TestResume: a run that is cut in two gives the bits of one that is not, and so does replaying its gradients.
func TestResume(t *testing.T) {
	files := base(t, tiny.Shape{Type: "gpt2", Tied: true})
	for name, o := range map[string]job.Optimizer{
		job.AdamW: {}, job.AdamW8: {}, job.Lion: {}, job.Sophia: {HessianEvery: 2}, job.SGD: {Momentum: 0.9, Nesterov: true}, job.Adafactor: {},
	} {
		t.Run(name, func(t *testing.T) {
			o.Name = name
			resume(t, trainer.Config{Spec: valid(t, tinySpec(job.Spec{MaxSteps: 7, Optimizer: o})), Model: files, Rows: lesson(9)})
		})
	}
}

func resume(t *testing.T, c trainer.Config) {
	whole := newTrainer(t, c)
	train(t, whole, 7)

	first := newTrainer(t, c)
	train(t, first, 3)
	state, err := first.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if v := c.Spec.Optimizer.Name; (state.V == nil) != (v == job.Lion || v == job.SGD || v == job.Adafactor) || state.M == nil {
		t.Errorf("%s: a snapshot with m %v, v %v", v, state.M != nil, state.V != nil)
	}
	rest := newTrainer(t, c)
	if err := rest.Restore(state); err != nil {
		t.Fatal(err)
	}
	if hash(t, rest) != hash(t, first) {
		t.Error("the restored state has other bits")
	}
	if got := train(t, rest, 7); len(got) != 4 || got[0].Step != 4 {
		t.Errorf("steps after step 3: %+v", got)
	}
	if hash(t, rest) != hash(t, whole) {
		t.Error("a resumed run has other bits")
	}

	tape, replay := &recorder{}, newTrainer(t, c)
	if err := newTrainer(t, c).Run(context.Background(), whole7(t, c), tape, func(trainer.StepReport) {}); err != nil {
		t.Fatal(err)
	}
	for i, g := range tape.g {
		if _, err := replay.Apply(g, tape.tot[i]); err != nil {
			t.Fatal(err)
		}
	}
	if hash(t, replay) != hash(t, whole) {
		t.Error("replayed gradients give other bits")
	}
}

// whole7 is the work of the first seven steps.
func whole7(t *testing.T, c trainer.Config) trainer.Source { return newTrainer(t, c).Local() }

// recorder is Solo that keeps what it gave.
type recorder struct {
	trainer.Solo
	g   [][]float32
	tot []trainer.Totals
}

func (r *recorder) Cut(ctx context.Context, round uint64) ([]trainer.Chunk, trainer.Totals, error) {
	own, tot, err := r.Solo.Cut(ctx, round)
	r.tot = append(r.tot, tot)
	return own, tot, err
}

func (r *recorder) Gather(ctx context.Context, round uint64, own []trainer.Chunk, dst []float32) error {
	err := r.Solo.Gather(ctx, round, own, dst)
	r.g = append(r.g, slices.Clone(dst))
	return err
}

// TestSkippedSteps: nothing to learn from and numbers that are not finite leave the weights alone, and say so.
func TestSkippedSteps(t *testing.T) {
	tr := newTrainer(t, trainer.Config{Spec: valid(t, tinySpec(job.Spec{MaxSteps: 9})), Model: base(t, tiny.Shape{}), Rows: lesson(6)})
	before, g := hash(t, tr), make([]float32, tr.Elems())
	for i := range g {
		g[i] = 1
	}
	for i, tot := range []trainer.Totals{
		{}, {Tokens: 3, SumSq: math.Inf(1)}, {Tokens: 3, SumSq: math.NaN()}, {Tokens: 3, SumSq: 1, NonFinite: true},
		{Tokens: 3, Loss: math.NaN(), SumSq: 1, NonFinite: true},
	} {
		r, err := tr.Apply(g, tot)
		if err != nil || !r.Skipped || r.Step != uint64(i+1) || math.IsNaN(r.Loss) || math.IsNaN(r.GradNorm) || math.IsInf(r.GradNorm, 0) {
			t.Errorf("%+v: %+v, %v", tot, r, err)
		}
	}
	if hash(t, tr) != before {
		t.Error("a skipped step changed the state")
	}
	if r, err := tr.Apply(g, trainer.Totals{Tokens: 3, Loss: 6, SumSq: 9}); err != nil || r.Skipped || r.Loss != 2 || r.GradNorm != 1 || r.Step != 6 {
		t.Errorf("%+v, %v", r, err)
	}
	if hash(t, tr) == before {
		t.Error("a step changed nothing")
	}
	if _, err := tr.Apply(g[1:], trainer.Totals{Tokens: 1}); err == nil {
		t.Error("a gradient of another length was taken")
	}
}

// sources and collectives that go wrong.
type fixed struct {
	work []trainer.Work
	trainer.Solo
	cut error
}

func (f *fixed) Next(context.Context) (trainer.Work, error) {
	if len(f.work) == 0 {
		return trainer.Work{}, io.EOF
	}
	w := f.work[0]
	f.work = f.work[1:]
	return w, nil
}

func (f *fixed) Cut(ctx context.Context, round uint64) ([]trainer.Chunk, trainer.Totals, error) {
	if f.cut != nil {
		return nil, trainer.Totals{}, f.cut
	}
	return f.Solo.Cut(ctx, round)
}

func TestRunRefuses(t *testing.T) {
	all := []shard.Range{{Lo: 0, Hi: 6}}
	for _, tc := range []struct {
		name string
		f    fixed
		want error // nil: any
	}{
		{"work of a later step", fixed{work: []trainer.Work{{Round: 2, Positions: all}}}, trainer.ErrExcluded},
		{"more than a batch", fixed{work: []trainer.Work{{Round: 1, Positions: []shard.Range{{Lo: 0, Hi: 7}}}}}, nil},
		{"endless positions", fixed{work: []trainer.Work{{Round: 1, Positions: []shard.Range{{Lo: 0, Hi: math.MaxUint64}}}}}, nil},
		{"backward range", fixed{work: []trainer.Work{{Round: 1, Positions: []shard.Range{{Lo: 5, Hi: 2}}}}}, nil},
		{"excluded", fixed{work: []trainer.Work{{Round: 1, Positions: all}}, cut: trainer.ErrExcluded}, trainer.ErrExcluded},
	} {
		tr := newTrainer(t, trainer.Config{Spec: valid(t, tinySpec(job.Spec{MaxSteps: 9})), Model: base(t, tiny.Shape{}), Rows: lesson(6)})
		before := hash(t, tr)
		err := tr.Run(context.Background(), &tc.f, &tc.f, func(trainer.StepReport) { t.Errorf("%s: a step was reported", tc.name) })
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: error %v, want %v", tc.name, err, tc.want)
		}
		if hash(t, tr) != before {
			t.Errorf("%s: the state changed", tc.name)
		}
	}
}

// TestNoWork: a member without positions hands in an empty contribution and steps like the others.
func TestNoWork(t *testing.T) {
	tr := newTrainer(t, trainer.Config{Spec: valid(t, tinySpec(job.Spec{MaxSteps: 2})), Model: base(t, tiny.Shape{}), Rows: lesson(6)})
	f := &fixed{work: []trainer.Work{{Round: 1}, {Round: 2, Positions: []shard.Range{{Lo: 6, Hi: 8}, {Lo: 10, Hi: 12}}}}}
	var got []trainer.StepReport
	if err := tr.Run(context.Background(), f, f, func(r trainer.StepReport) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || !got[0].Skipped || got[1].Skipped || got[1].Tokens == 0 {
		t.Errorf("%+v", got)
	}
}

// TestOverfit: a model learns its few rows by heart.
func TestOverfit(t *testing.T) {
	spec := tinySpec(job.Spec{MaxSteps: 120})
	spec.Optimizer.LR = 1e-2
	data := lesson(6)
	tr := newTrainer(t, trainer.Config{Spec: valid(t, spec), Model: base(t, tiny.Shape{Std: 0.1}), Rows: data})
	train(t, tr, math.MaxUint64)
	r, err := tr.Eval(context.Background(), data)
	if err != nil || r.Loss > 0.1 || r.Accuracy < 0.95 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestKernelsAgree: whatever instructions a CPU has, training gives the same bits.
func TestKernelsAgree(t *testing.T) {
	files, data := base(t, tiny.Shape{KVHeads: 2, Inner: 70}), lesson(12)
	sums := map[[32]byte][]string{}
	for _, name := range []string{"cpu:generic", "cpu:avx2", "cpu:avx512", "cpu:neon", "cpu"} {
		dev, err := kernels.Open(name)
		if err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		defer dev.Close()
		tr, err := trainer.New(trainer.Config{Spec: valid(t, tinySpec(job.Spec{MaxSteps: 3})), Model: files, Rows: data, Device: dev})
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		train(t, tr, 3)
		sums[hash(t, tr)] = append(sums[hash(t, tr)], name)
	}
	if len(sums) != 1 {
		t.Errorf("bits differ: %v", sums)
	}
}
