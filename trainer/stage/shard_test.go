package stage_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// group is shards of one process: each calls on its own goroutine.
type group struct {
	n    int
	mu   sync.Mutex
	meet *meeting
}

// meeting is one call of all.
type meeting struct {
	v    [][]float32
	came int
	done chan struct{}
}

// member is a shard's end of a group.
type member struct {
	*group
	rank int
}

func (m member) Sum(ctx context.Context, v []float32) error {
	return m.all(ctx, v, func(a, b float32) float32 { return a + b })
}

func (m member) Max(ctx context.Context, v []float32) error {
	return m.all(ctx, v, func(a, b float32) float32 { return max(a, b) })
}

func (m member) all(ctx context.Context, v []float32, op func(a, b float32) float32) error {
	m.mu.Lock()
	at := m.meet
	if at == nil {
		at = &meeting{v: make([][]float32, m.n), done: make(chan struct{})}
		m.meet = at
	}
	at.v[m.rank] = slices.Clone(v)
	if at.came++; at.came == m.n {
		m.meet = nil
		for _, u := range at.v {
			if len(u) != len(v) {
				panic(fmt.Sprintf("shards meet with %d and %d numbers", len(u), len(v)))
			}
		}
		for i := range v {
			for _, u := range at.v[1:] {
				at.v[0][i] = op(at.v[0][i], u[i])
			}
		}
		close(at.done)
	}
	m.mu.Unlock()
	select {
	case <-at.done:
		copy(v, at.v[0])
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// shardRun trains a model's shards together and gives the losses and the gradient by name, of whole weights.
func shardRun(t *testing.T, dir string, of int, checkpoint bool, parts int, work [][]model.Sequence) (sums [][]objective.Sums, g map[string][]float32) {
	t.Helper()
	gr := &group{n: of}
	g, sums = map[string][]float32{}, make([][]objective.Sums, of)
	var mu sync.Mutex
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	for rank := range of {
		wg.Go(func() {
			err := func() error {
				m, err := model.OpenShard(safetensors.Dir(dir), model.Shard{Rank: rank, Of: of})
				if err != nil {
					return err
				}
				defer m.Close()
				u := setup{m: m, trained: slices.Clone(m.Params), compute: dtype.F32}
				u.place()
				var line []*stage.Stage
				for _, part := range evenly(m, parts) {
					s, err := stage.NewPart(dtype.F32, modeltest.Device(t), m, nil, u.trained, part)
					if err != nil {
						return err
					}
					defer s.Close()
					s.Group, s.Checkpoint = member{gr, rank}, checkpoint
					s.ZeroGrad()
					line = append(line, s)
				}
				for _, q := range work {
					sum, err := once(ctx, line, q)
					if err != nil {
						return err
					}
					sums[rank] = append(sums[rank], sum)
				}
				for _, s := range line {
					if err := s.SumAddends(ctx); err != nil {
						return err
					}
				}
				mu.Lock()
				defer mu.Unlock()
				return collect(t, m, line, g, rank)
			}()
			if err != nil {
				t.Error(err)
				stop()
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return sums, g
}

// once takes a micro-batch through a line and back.
func once(ctx context.Context, line []*stage.Stage, q []model.Sequence) (sum objective.Sums, err error) {
	var x []float32
	for _, s := range line {
		if x, sum, err = s.Forth(ctx, 0, 3, q, x); err != nil {
			return sum, err
		}
	}
	for i := len(line) - 1; i >= 0; i-- {
		if x, err = line[i].Back(ctx, 0, x); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// collect puts a shard's gradients into those of whole weights. What several shards hold they must agree on.
func collect(t *testing.T, m *model.Model, line []*stage.Stage, g map[string][]float32, rank int) error {
	all := map[*autograd.Param][]float32{}
	for _, s := range line {
		own, at := download(t, s, s.G), 0
		for _, p := range s.Train {
			if all[p] == nil {
				all[p] = make([]float32, p.Len())
			}
			for i := range p.Len() {
				all[p][i] += own[at+i] // parts have shares of what they both hold
			}
			at += p.Len()
		}
	}
	for p, v := range all {
		if g[p.Name] == nil {
			g[p.Name] = make([]float32, m.Whole(p))
		}
		whole := g[p.Name]
		put := func(at, to, n int) {
			for i := range n {
				if old := whole[to+i]; old != 0 && old != v[at+i] {
					t.Errorf("shard %d has gradient %v of %s where another has %v", rank, v[at+i], p.Name, old)
					return
				}
				whole[to+i] = v[at+i]
			}
		}
		if !m.Place(p, put) {
			put(0, 0, p.Len())
		}
	}
	return nil
}

// checkShards holds shards against the whole.
func checkShards(t *testing.T, dir string, of int, checkpoint bool, parts int, work [][]model.Sequence) {
	t.Helper()
	m, err := model.Open(safetensors.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	u := setup{m: m, trained: slices.Clone(m.Params), each: func(*stage.Stage) {}}
	sums, want := wholeRun(t, u, nil, work)
	got, g := shardRun(t, dir, of, checkpoint, parts, work)
	for rank := range got {
		for i, s := range got[rank] {
			if d := s.Loss - sums[i].Loss; d*d > 1e-10*sums[i].Loss*sums[i].Loss || s.Tokens != sums[i].Tokens {
				t.Errorf("shard %d of %d: loss %v, want %v", rank, of, s, sums[i])
			}
		}
	}
	worst := 0.0
	for _, p := range u.trained {
		d := apart(g[p.Name], want[p.Off:p.Off+p.Len()])
		if worst = max(worst, d); d > 1e-5 {
			t.Errorf("%d shards: gradient of %s differs by %.2g of itself", of, p.Name, d)
		}
	}
	t.Logf("%d shards: gradients differ by at most %.2g of themselves", of, worst)
}

// TestShards: shards of a model have its losses and its gradient. Widths and vocabularies do not divide evenly.
func TestShards(t *testing.T) {
	for name, shape := range map[string]tiny.Shape{
		"llama":       {Heads: 4, KVHeads: 4, Inner: 67},
		"one kv head": {Heads: 4, KVHeads: 1},
		"two kv":      {Heads: 4, KVHeads: 2, Tied: true},
		"qwen2":       {Type: "qwen2", Heads: 4, KVHeads: 2},
		"qwen3":       {Type: "qwen3", Heads: 4, KVHeads: 2},
		"gemma2":      {Type: "gemma2", Heads: 4, Tied: true, KVHeads: 2, Window: 3},
		"phi3":        {Type: "phi3", Heads: 4, KVHeads: 2, Window: 4},
		"gpt2":        {Type: "gpt2", Heads: 4, Tied: true},
		"gpt2 untied": {Type: "gpt2", Heads: 4},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			shape.Std, shape.Scatter = 0.2, true
			if err := tiny.Write(dir, shape, 7); err != nil {
				t.Fatal(err)
			}
			for _, of := range []int{1, 2, 4} {
				checkShards(t, dir, of, false, 1, micros())
			}
			checkShards(t, dir, 2, true, 2, micros())
		})
	}
}

// TestShardsOfReferenceModels does the same with every model that has reference values.
func TestShardsOfReferenceModels(t *testing.T) {
	for _, name := range []string{"llama_gqa", "llama_gqa_tied", "llama_mha", "llama_mqa_hd", "llama3_rope", "mistral_swa", "qwen2", "gpt2"} {
		t.Run(name, func(t *testing.T) {
			dir := modeltest.Data(t, "reference", "models", name)
			io := modeltest.File(t, modeltest.Data(t, "reference", "models", name, "io.safetensors"))
			var q []model.Sequence
			for _, ids := range modeltest.Rows(t, io, "input_ids") {
				q = append(q, model.Sequence{IDs: ids, Target: objective.Targets(ids)})
			}
			for _, of := range []int{2, 4} {
				checkShards(t, dir, of, false, 1, [][]model.Sequence{q})
			}
		})
	}
}
