package gather_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/shard/layout"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/gather"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

func inMemory(n int) (gather.Store, error) { return make(gather.Memory, n), nil }

func open(t *testing.T, s tiny.Shape) *model.Model {
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

// owners puts a model's weights with n owners.
func owners(t *testing.T, m *model.Model, n int, store func(n int) (gather.Store, error)) *gather.Owners {
	t.Helper()
	var ps []layout.Param
	for _, p := range m.Params {
		ps = append(ps, layout.Param{Name: p.Name, Unit: p.Unit, Rows: p.Rows, Cols: p.Cols})
	}
	l, err := layout.New(ps)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("owner %d", i))
	}
	o, err := gather.NewOwners(l, names, store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	all := make([]float32, l.Size)
	for i, p := range m.Params {
		if err := m.Read(p, all[l.Params[i].Off:][:p.Len()]); err != nil {
			t.Fatal(err)
		}
	}
	err = o.Each(func(c int, w, _ []float32) error {
		copy(w, all[l.Chunks[c].Lo:])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func sequences(rows ...int) (seqs []model.Sequence) {
	rng := rand.New(rand.NewPCG(1, 2))
	for k, n := range rows {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = int32(rng.IntN(tiny.Bytes))
		}
		seqs = append(seqs, model.Sequence{IDs: ids, Target: objective.Targets(ids), Key: int32(k)})
	}
	return seqs
}

// pass takes two micro-batches through a stage and back.
func pass(t *testing.T, s *stage.Stage) (loss float64) {
	t.Helper()
	s.ZeroGrad()
	for _, q := range [][]model.Sequence{sequences(7, 1, 12), sequences(9)} {
		sums, err := s.Forward(context.Background(), 3, q)
		if err == nil {
			err = s.Backward(context.Background())
		}
		if err != nil {
			t.Fatal(err)
		}
		loss += sums.Loss
	}
	return loss
}

// gradient is what the owners hold, and clears it.
func gradient(t *testing.T, o *gather.Owners) []float32 {
	t.Helper()
	g := make([]float32, o.Layout.Size)
	err := o.Each(func(c int, _, sum []float32) error {
		copy(g[o.Layout.Chunks[c].Lo:], sum)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func apart(a, b []float32) float64 {
	var d, n float64
	for i := range a {
		d += math.Pow(float64(a[i])-float64(b[i]), 2)
		n += math.Pow(float64(b[i]), 2)
	}
	return math.Sqrt(d / n)
}

var shapes = map[string]tiny.Shape{
	"llama":       {KVHeads: 2, Layers: 4},
	"llama, tied": {Tied: true, Layers: 3},
	"gpt2":        {Type: "gpt2", Tied: true},
	"gemma2":      {Type: "gemma2", Tied: true, KVHeads: 2, Window: 3},
	"odd widths":  {Hidden: 24, Heads: 3, Inner: 37, Layers: 3},
}

// TestGathered: weights that come and go give the losses and gradients of weights that stay, for any number of owners, and
// no more of them is on the device than two units with a gradient each.
func TestGathered(t *testing.T) {
	for name, shape := range shapes {
		for _, checkpoint := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, checkpoint %v", name, checkpoint), func(t *testing.T) {
				m := open(t, shape)
				all := slices.Clone(m.Params)
				elems := 0
				for _, p := range all {
					p.Off = elems
					elems += p.Len()
				}
				r, err := stage.New(modeltest.Device(t), m, nil, all, elems)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				r.Checkpoint = checkpoint
				loss := pass(t, r)
				want := make([]float32, elems)
				if err := r.Stream.Download(want, r.G); err != nil {
					t.Fatal(err)
				}
				for _, n := range []int{1, 2, 3, 5} {
					o := owners(t, m, n, inMemory)
					s, err := stage.NewGathered(dtype.F32, modeltest.Device(t), m, nil, all, elems, o)
					if err != nil {
						t.Fatal(err)
					}
					s.Checkpoint = checkpoint
					if got := pass(t, s); math.Abs(got-loss) > 1e-5*loss {
						t.Errorf("%d owners: loss %v, want %v", n, got, loss)
					}
					if d := apart(gradient(t, o), want); d > 1e-6 {
						t.Errorf("%d owners: the gradient differs by %.2g of itself", n, d)
					}
					most := int64(0)
					for _, u := range o.Layout.Units {
						most = max(most, 4*int64(u.Hi-u.Lo))
					}
					limit := 4 * most
					if shape.Tied { // the table is a unit of its own beside that which uses it
						limit += 2 * most
					}
					if b := s.Gathered().Moved(); b.Peak > limit {
						t.Errorf("%d owners: %d bytes on the device, limit %d", n, b.Peak, limit)
					}
					s.Close()
				}
			})
		}
	}
}

// TestBytes holds what a step of one micro-batch moves against 3Ψ: gathered forward and backward, scattered once.
func TestBytes(t *testing.T) {
	m := open(t, tiny.Shape{KVHeads: 2, Layers: 8})
	all := slices.Clone(m.Params)
	o := owners(t, m, 3, inMemory)
	for _, checkpoint := range []bool{false, true} {
		s, err := stage.NewGathered(dtype.F32, modeltest.Device(t), m, nil, all, o.Layout.Size, o)
		if err != nil {
			t.Fatal(err)
		}
		s.Checkpoint = checkpoint
		if _, err := s.Forward(t.Context(), 1, sequences(9)); err != nil {
			t.Fatal(err)
		}
		if err := s.Backward(t.Context()); err != nil {
			t.Fatal(err)
		}
		b := s.Gathered().Moved()
		psi := 4 * int64(o.Layout.Size)
		r := float64(b.Gathered+b.Scattered) / float64(3*psi)
		t.Logf("%.3f of 3Ψ", r)
		if r > 1.05 {
			t.Errorf("a step moves %d bytes gathered and %d scattered, 3Ψ are %d", b.Gathered, b.Scattered, 3*psi)
		}
		s.Close()
	}
}

// TestAdapterStays: an adapter over weights that come and go; in a file this time.
func TestAdapterStays(t *testing.T) {
	m := open(t, shapes["llama"])
	a, err := peft.New(m, peft.Config{R: 3, Alpha: 6, Dropout: 0.3, All: true}, 5)
	if err != nil {
		t.Fatal(err)
	}
	elems := 0
	for _, p := range a.Weights() {
		p.Off = elems
		elems += p.Len()
	}
	r, err := stage.New(modeltest.Device(t), m, a, a.Weights(), elems)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	o := owners(t, m, 2, func(n int) (gather.Store, error) { return gather.NewFile(dir, n) })
	s, err := stage.NewGathered(dtype.F32, modeltest.Device(t), m, a, a.Weights(), elems, o)
	if err != nil {
		t.Fatal(err)
	}
	want, got := make([]float32, elems), make([]float32, elems)
	loss := pass(t, r)
	if l := pass(t, s); math.Abs(l-loss) > 1e-5*loss {
		t.Errorf("loss %v, want %v", l, loss)
	}
	if err := errors.Join(r.Stream.Download(want, r.G), s.Stream.Download(got, s.G)); err != nil {
		t.Fatal(err)
	}
	if d := apart(got, want); d > 1e-6 {
		t.Errorf("the gradient differs by %.2g of itself", d)
	}
	if b := s.Gathered().Moved(); b.Scattered != 0 {
		t.Errorf("%d bytes of gradients of frozen weights", b.Scattered)
	}
}

// broken is a source that fails.
type broken struct {
	gather.Source
	gather, scatter bool
}

var errBroken = errors.New("broken")

func (b broken) Gather(ctx context.Context, unit int, dst []float32) error {
	if b.gather && unit == 2 {
		return errBroken
	}
	return b.Source.Gather(ctx, unit, dst)
}

func (b broken) Scatter(ctx context.Context, unit int, g []float32) error {
	if b.scatter && unit == 0 {
		return errBroken
	}
	return b.Source.Scatter(ctx, unit, g)
}

// TestErrors of the source are those of the pass.
func TestErrors(t *testing.T) {
	m := open(t, shapes["llama"])
	o := owners(t, m, 1, inMemory)
	for _, src := range []broken{{o, true, false}, {o, false, true}} {
		s, err := stage.NewGathered(dtype.F32, modeltest.Device(t), m, nil, slices.Clone(m.Params), o.Layout.Size, src)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Forward(t.Context(), 1, sequences(5))
		if err == nil {
			err = s.Backward(t.Context())
		}
		if !errors.Is(err, errBroken) {
			t.Errorf("the pass ends with %v", err)
		}
		s.Close()
	}
	var p autograd.Param
	if s, err := stage.NewGathered(dtype.F32, modeltest.Device(t), m, nil, []*autograd.Param{&p}, 0, o); err == nil {
		s.Close()
	}
}
