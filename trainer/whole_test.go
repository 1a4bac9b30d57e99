package trainer_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
)

// parted are trainers of which each computes a part, keeps the state of all and owns chunks.
type parted struct {
	c        trainer.Config
	cuts     []int // of units
	trainers []*trainer.Trainer
	lines    []*swapped
	shared   *shared
}

// swapped is a line that a test replaces between rounds.
type swapped struct{ trainer.Line }

func (p *parted) part(i int) model.Part { return model.Part{Lo: p.cuts[i], Hi: p.cuts[i+1]} }

// evenly cuts units into stages.
func evenly(units, stages int) (cuts []int) {
	for i := range stages + 1 {
		cuts = append(cuts, i*units/stages)
	}
	return cuts
}

func newParted(t *testing.T, c trainer.Config, cuts []int) *parted {
	t.Helper()
	c.Owners, c.Whole = true, true
	p := &parted{c: c, cuts: cuts, shared: &shared{}}
	for i := range len(cuts) - 1 {
		line := &swapped{}
		c.Part, c.Line = p.part(i), line
		p.lines = append(p.lines, line)
		p.trainers = append(p.trainers, newTrainer(t, c))
	}
	p.shared.v = make([]float32, p.trainers[0].Elems())
	return p
}

// steps takes so many steps, and holds the members' states against each other after each.
func (p *parted) steps(t *testing.T, n uint64) (reports []trainer.StepReport) {
	t.Helper()
	pipe := newPipe(len(p.trainers), p.c.Spec.MicroBatchSize)
	g := newGroup(len(p.trainers), p.c.Rows.Rows(), p.c.Spec)
	g.round = p.trainers[0].Step() + 1
	last := p.trainers[0].Step() + n
	hashes := make([][][32]byte, len(p.trainers))
	var wg sync.WaitGroup
	for i, tr := range p.trainers {
		p.lines[i].Line = &pipeEnd{pipe: pipe, stage: i}
		l, _ := tr.Layout()
		col := &owner{member: &member{group: g, id: i, t: t}, layout: l, own: func(c int) bool { return c%len(p.trainers) == i }, shared: p.shared}
		wg.Go(func() {
			err := tr.Run(t.Context(), until{tr.Local(), last}, col, func(r trainer.StepReport) {
				if hashes[i] = append(hashes[i], hash(t, tr)); i == 0 {
					reports = append(reports, r)
				}
			})
			if err != nil {
				t.Errorf("part %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for i, h := range hashes {
		if !slices.Equal(h, hashes[0]) || len(h) != int(min(n, last)) && len(h) == 0 {
			t.Fatalf("the member of part %d has other state than that of part 0", i)
		}
	}
	if t.Failed() || len(reports) == 0 || math.IsNaN(reports[0].Loss) {
		t.FailNow()
	}
	return reports
}

// TestReferenceCurvesInWhole is TestReferenceCurves on members that compute a part each, keep the state of all, and step
// the chunks that they own.
func TestReferenceCurvesInWhole(t *testing.T) {
	var meta struct{ Full, Lora curve }
	modeltest.JSON(t, modeltest.Data(t, "reference", "stories260K", "meta.json"), &meta)
	data := modeltest.File(t, modeltest.Data(t, "reference", "stories260K", "data.safetensors"))
	train := rows(modeltest.Rows(t, data, "train_ids"))
	base := safetensors.Dir(modeltest.Data(t, "models", "stories260K"))
	if modeltest.Device(t).Info().Kernel == "generic" {
		t.Skip("takes minutes without vector instructions")
	}
	for _, tc := range []struct {
		name    string
		spec    job.Spec
		adapter model.Files
		want    curve
		parts   []int
	}{{"full", fullSpec(), nil, meta.Full, full([]int{2, 5}, 1, 3)}, {"lora", loraSpec(), adapterDir(t), meta.Lora, full([]int{1, 3}, 2, 5)}} {
		for _, parts := range tc.parts {
			t.Run(fmt.Sprintf("%s, %d parts", tc.name, parts), func(t *testing.T) {
				c := trainer.Config{Spec: staged(t, tc.spec), Model: base, Adapter: tc.adapter, Rows: train}
				compare(t, newParted(t, c, evenly(7, parts)).steps(t, 50), tc.want)
			})
		}
	}
}

// full is a few numbers, and where the tests take their time (SHOAL_FULL) more of them.
func full(few []int, more ...int) []int {
	if os.Getenv("SHOAL_FULL") == "" {
		return few
	}
	return append(few, more...)
}

// staged completes a spec of a pipeline.
func staged(t testing.TB, s job.Spec) *job.Spec {
	t.Helper()
	if s.MicroBatchSize == 0 {
		s.MicroBatchSize = 1
	}
	spec := valid(t, s)
	spec.Parallel.Pipeline = job.Auto
	return spec
}

// until ends a source after a step.
type until struct {
	trainer.Source
	last uint64
}

func (u until) Next(ctx context.Context) (trainer.Work, error) {
	w, err := u.Source.Next(ctx)
	if err == nil && w.Round > u.last {
		return w, io.EOF
	}
	return w, err
}
