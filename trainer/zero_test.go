package trainer_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/layout"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// owner is a member of a group whose chunks have one owner each: Cut gives the means of its own, Gather brings what all
// made of theirs.
type owner struct {
	*member
	layout *layout.Layout
	own    func(chunk int) bool
	again  uint64 // the round whose first cut is given up after the step
	tried  bool
	tot    trainer.Totals
	shared *shared
}

// shared is what owners have brought of a round.
type shared struct {
	mu sync.Mutex
	v  []float32
}

func (o *owner) Cut(ctx context.Context, round uint64) ([]trainer.Chunk, trainer.Totals, error) {
	sum, tot, err := o.member.Cut(ctx, round)
	o.tot, tot.SumSq = tot, 0
	own := []trainer.Chunk{}
	for c, ch := range o.layout.Chunks {
		v := slices.Clone(sum[0].V[ch.Lo:ch.Hi])
		if ch.Lo < o.layout.Size/halves(o.spec) {
			for _, x := range v {
				tot.SumSq += float64(x) * float64(x)
			}
		}
		for i, x := range v {
			v[i] = float32(float64(x) / float64(tot.Tokens))
		}
		if o.own(c) {
			own = append(own, trainer.Chunk{Lo: ch.Lo, Hi: ch.Hi, V: v})
		}
	}
	return own, tot, err
}

// halves are the parts of the index space of which one holds weights.
func halves(spec *job.Spec) int {
	if spec.Optimizer.Name == job.Sophia {
		return 2
	}
	return 1
}

func (o *owner) Gather(ctx context.Context, round uint64, own []trainer.Chunk, dst []float32) error {
	if round == o.again && !o.tried { // a further attempt: the cut is made again
		o.tried, o.next = true, round
		return fmt.Errorf("gather: %w", trainer.ErrAttempt)
	}
	o.shared.mu.Lock()
	for _, ch := range own {
		copy(o.shared.v[ch.Lo:ch.Hi], ch.V)
	}
	o.shared.mu.Unlock()
	err := o.member.Gather(ctx, round, []trainer.Chunk{{V: make([]float32, len(dst))}}, dst) // leaves with the others
	o.shared.mu.Lock()
	copy(dst, o.shared.v)
	o.shared.mu.Unlock()
	return err
}

// Reduce hands a piece in once.
func (o *owner) Reduce(ctx context.Context, p trainer.Piece, u []float32) error {
	if p.Round == o.again && o.tried {
		return nil
	}
	return o.member.Reduce(ctx, p, u)
}

// together trains spec on three members and returns them.
func together(t *testing.T, spec *job.Spec, c trainer.Config, owners bool) (trainers [3]*trainer.Trainer) {
	t.Helper()
	g := newGroup(3, c.Rows.Rows(), spec)
	all := &shared{}
	var wg sync.WaitGroup
	for i := range trainers {
		c.Owners = owners
		trainers[i] = newTrainer(t, c)
		l, _ := trainers[i].Layout()
		all.v = make([]float32, l.Size)
		m := &member{group: g, id: i, next: 1, t: t}
		var col interface {
			trainer.Source
			trainer.Collective
		} = m
		if owners {
			weights := trainers[i].Weights()
			col = &owner{member: m, layout: l, again: 3, own: func(c int) bool { return c%weights%3 == i }, shared: all}
		}
		wg.Go(func() {
			if err := trainers[i].Run(t.Context(), col, col, func(trainer.StepReport) {}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return trainers
}

// TestOwnersStep: three members of which each steps its own chunks have the bits of three that step everything, weights
// and optimizer state, also when a cut is made twice.
func TestOwnersStep(t *testing.T) {
	files, data := base(t, tiny.Shape{KVHeads: 2}), lesson(20)
	for name, o := range map[string]job.Optimizer{
		job.AdamW: {}, job.AdamW8: {}, job.Lion: {}, job.SGD: {Momentum: 0.9}, job.Sophia: {HessianEvery: 3},
	} {
		t.Run(name, func(t *testing.T) {
			o.Name, o.WeightDecay = name, 0.1
			spec := tinySpec(job.Spec{MaxSteps: 7, Optimizer: o, Parallel: job.Parallel{Zero: "2"}})
			if name == job.Sophia {
				spec.MaxGradNorm = new(0.0) // the norm is rounded in another way
			}
			sp := valid(t, spec)
			c := trainer.Config{Spec: sp, Model: files, Rows: data}
			want, err := together(t, sp, c, false)[0].Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			for i, tr := range together(t, sp, c, true) {
				got, err := tr.Snapshot()
				if err != nil || !slices.Equal(got.W, want.W) || got.M != nil || got.Step != 7 {
					t.Fatalf("member %d has other weights after step %d: %v", i, got.Step, err)
				}
				l, _ := tr.Layout()
				for k := i; k < tr.Weights(); k += 3 {
					m, ok, err := tr.Moments(k)
					ch := l.Chunks[k]
					if err != nil || !ok || m.Step != 7 || m.Count != 7 || !slices.Equal(m.M, want.M[ch.Lo:ch.Hi]) ||
						want.V != nil && !slices.Equal(m.V, want.V[ch.Lo:ch.Hi]) {
						t.Errorf("chunk %d has other moments: %v %v %+v", k, ok, err, m.Step)
					}
				}
			}
		})
	}
}

// TestOwnersMemory: an owner has memory for the old and the new state of its chunks, and for no others.
func TestOwnersMemory(t *testing.T) {
	files := base(t, tiny.Shape{Hidden: 256, Inner: 1024, Layers: 3, Vocab: 4096})
	spec := valid(t, tinySpec(job.Spec{MaxSteps: 1, Parallel: job.Parallel{Zero: "2"}}))
	inUse := func(owners bool) (*trainer.Trainer, int64) {
		c := trainer.Config{Spec: spec, Model: files, Rows: lesson(4), Device: modeltest.Device(t), Owners: owners}
		before := c.Device.Info().InUse
		tr := open(t, c.Device, c)
		return tr, c.Device.Info().InUse - before
	}
	tr, all := inUse(false)
	rest := all - 8*int64(tr.Elems()) // without both moments
	closed(t, tr)
	tr, _ = inUse(true)
	defer closed(t, tr)
	l, _ := tr.Layout()
	share := 0
	for c := 0; c < tr.Weights(); c += 3 {
		if err := tr.Keep(trainer.Moments{Chunk: c}); err != nil {
			t.Fatal(err)
		}
		share += l.Chunks[c].Len()
	}
	got := tr.Device().Info().InUse - rest
	t.Logf("state of %d elements takes %.3f of what old and new moments are", share, float64(got)/float64(16*share))
	if float64(got) > 1.1*float64(16*share) {
		t.Errorf("%d bytes for the state of %d elements", got, share)
	}
	tr.Forget(func(int, uint64) bool { return false })
	if left := tr.Device().Info().InUse - rest; left > 4<<20 {
		t.Errorf("%d bytes in use when nothing is owned", left)
	}
}
