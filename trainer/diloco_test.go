package trainer_test

import (
	"context"
	"io"
	"math"
	"sync"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// roamer is a member of a diloco job: in each round all members take as many batches, of their own.
type roamer struct {
	*member
	t     *testing.T
	steps int
}

func (m *roamer) Next(context.Context) (w trainer.Work, err error) {
	each := uint64(m.spec.Parallel.InnerSteps * m.spec.GlobalBatchSize)
	span, all := each*uint64(m.size), m.spec.Samples(uint64(m.rows))
	w = trainer.Work{Round: m.next, Done: span * (m.next - 1), Planned: span}
	if w.Done >= all {
		return w, io.EOF
	}
	lo := w.Done + each*uint64(m.id)
	w.Positions = []shard.Range{{Lo: lo, Hi: lo + each}}
	m.next++
	return w, nil
}

func (m *roamer) Cut(ctx context.Context, round uint64) ([]trainer.Chunk, trainer.Totals, error) {
	own, t, err := m.member.Cut(ctx, round)
	t.Taken = round * uint64(m.spec.Parallel.InnerSteps*m.spec.GlobalBatchSize*m.size)
	return own, t, err
}

func (m *roamer) Progressed(rows int) {
	if m.steps++; rows != m.spec.GlobalBatchSize {
		m.t.Errorf("an inner step of %d rows", rows)
	}
}

// roam trains a group of members apart and returns the first one's trainer and what it reported.
func roam(t *testing.T, size int, c trainer.Config) (*trainer.Trainer, []trainer.StepReport) {
	t.Helper()
	g := newGroup(size, c.Rows.Rows(), c.Spec)
	trainers, reports := make([]*trainer.Trainer, size), make([][]trainer.StepReport, size)
	var wg sync.WaitGroup
	for i := range trainers {
		trainers[i] = newTrainer(t, c)
		wg.Go(func() {
			m := &roamer{member: &member{group: g, id: i, next: 1, t: t}, t: t}
			err := trainers[i].Run(context.Background(), m, m, func(r trainer.StepReport) { reports[i] = append(reports[i], r) })
			if err != nil || m.steps != len(reports[i])*c.Spec.Parallel.InnerSteps {
				t.Errorf("%d inner steps in %d rounds, %v", m.steps, len(reports[i]), err)
			}
		})
	}
	wg.Wait()
	for _, tr := range trainers[1:] {
		if hash(t, tr) != hash(t, trainers[0]) {
			t.Error("members have different bits")
		}
	}
	return trainers[0], reports[0]
}

// apartFrom is the largest difference of two trainers' shared weights.
func apartFrom(t *testing.T, a, b *trainer.Trainer) (most float64) {
	t.Helper()
	x, err := a.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for i := range x.W {
		most = max(most, math.Abs(float64(x.W[i]-y.W[i])))
	}
	return most
}

// TestDiLoCoAlone: one member that takes over all of its change trains as if there were no rounds.
func TestDiLoCoAlone(t *testing.T) {
	files, data := base(t, tiny.Shape{}), lesson(20)
	spec := tinySpec(job.Spec{MaxSteps: 12, LRScheduler: job.Scheduler{Name: job.Cosine, WarmupSteps: 3}})
	plain := newTrainer(t, trainer.Config{Spec: valid(t, spec), Model: files, Rows: data})
	train(t, plain, math.MaxUint64)
	spec.Parallel = job.Parallel{Sync: job.DiLoCo, InnerSteps: 4, OuterLR: new(1.0), OuterMomentum: new(0.0)}
	c := trainer.Config{Spec: valid(t, spec), Model: files, Rows: data}
	got, reports := roam(t, 1, c)
	if d := apartFrom(t, plain, got); d > 1e-6 {
		t.Errorf("weights differ by %g from those of plain training", d)
	}
	if n := len(reports); n != 3 || reports[2].Batches != 12 || reports[2].Step != 3 {
		t.Errorf("reports %+v", reports)
	}
	local := newTrainer(t, c) // the same in one process
	train(t, local, math.MaxUint64)
	if hash(t, local) != hash(t, got) {
		t.Error("a process alone has other bits than a swarm of one")
	}
}

// TestDiLoCoOneStep: rounds of one step of plain descent are synchronous descent on the batches of all.
func TestDiLoCoOneStep(t *testing.T) {
	files, data := base(t, tiny.Shape{KVHeads: 2}), lesson(20)
	spec := tinySpec(job.Spec{MaxSteps: 10, Optimizer: job.Optimizer{Name: job.SGD}, MaxGradNorm: new(0.0),
		LRScheduler: job.Scheduler{Name: job.Constant}})
	spec.Optimizer.LR, spec.GlobalBatchSize = 0.05, 18
	plain := newTrainer(t, trainer.Config{Spec: valid(t, spec), Model: files, Rows: data})
	train(t, plain, math.MaxUint64)
	spec.GlobalBatchSize, spec.MaxSteps = 6, 30
	spec.Parallel = job.Parallel{Sync: job.DiLoCo, InnerSteps: 1, OuterLR: new(1.0), OuterMomentum: new(0.0)}
	got, _ := roam(t, 3, trainer.Config{Spec: valid(t, spec), Model: files, Rows: data})
	if d := apartFrom(t, plain, got); d > 1e-6 {
		t.Errorf("weights differ by %g from those of synchronous descent", d)
	}
}

// TestDiLoCoResume: what members share is all of the state; who takes it over goes on with a new optimizer.
func TestDiLoCoResume(t *testing.T) {
	spec := valid(t, tinySpec(job.Spec{MaxSteps: 12, Optimizer: job.Optimizer{Name: job.SGD}, Parallel: job.Parallel{Sync: job.DiLoCo, InnerSteps: 3}}))
	c := trainer.Config{Spec: spec, Model: base(t, tiny.Shape{}), Rows: lesson(9)}
	whole, first, rest := newTrainer(t, c), newTrainer(t, c), newTrainer(t, c)
	train(t, whole, math.MaxUint64)
	train(t, first, 2)
	s, err := first.Snapshot()
	if err != nil || s.M == nil || s.V != nil {
		t.Fatalf("momentum %v, second moment %v: %v", s.M != nil, s.V != nil, err)
	}
	if err := rest.Restore(s); err != nil || hash(t, rest) != hash(t, first) {
		t.Fatalf("the restored state has other bits: %v", err)
	}
	train(t, rest, math.MaxUint64)
	if hash(t, rest) != hash(t, whole) {
		t.Error("a resumed run has other bits")
	}
}

// TestDiLoCoDrops: a member whose weights run away adds nothing, and is sane again in the next round.
func TestDiLoCoDrops(t *testing.T) {
	spec := valid(t, tinySpec(job.Spec{MaxSteps: 8, Optimizer: job.Optimizer{Name: job.SGD, LR: 1}, MaxGradNorm: new(0.0),
		Parallel: job.Parallel{Sync: job.DiLoCo, InnerSteps: 4}}))
	spec.Optimizer.LR = 1e30
	tr := newTrainer(t, trainer.Config{Spec: spec, Model: base(t, tiny.Shape{}), Rows: lesson(9)})
	before, err := tr.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var reports []trainer.StepReport
	if err := tr.Run(t.Context(), tr.Local(), &trainer.Solo{}, func(r trainer.StepReport) { reports = append(reports, r) }); err != nil {
		t.Fatal(err)
	}
	after, err := tr.Snapshot()
	if err != nil || len(reports) != 2 || !reports[1].Skipped || reports[1].Batches != 8 {
		t.Errorf("%+v, %v", reports, err)
	}
	for i := range before.W {
		if before.W[i] != after.W[i] {
			t.Fatal("the weights changed")
		}
	}
}

// dilocoGap is how much higher the loss may end, after as much data, than that of synchronous steps with as many rows.
const dilocoGap = 0.1

// TestDiLoCoGap: three members that agree after every fourth step learn about as much from the same data as three that
// agree after every step.
func TestDiLoCoGap(t *testing.T) {
	files := safetensors.Dir(modeltest.Data(t, "models", "stories260K"))
	var data rows
	for _, r := range modeltest.Rows(t, modeltest.File(t, modeltest.Data(t, "reference", "stories260K", "data.safetensors")), "train_ids")[:24] {
		data = append(data, r[:32])
	}
	spec := job.Spec{MicroBatchSize: 4, GlobalBatchSize: 12, MaxSteps: 48, Seed: 5, Optimizer: job.Optimizer{LR: 3e-3},
		LRScheduler: job.Scheduler{Name: job.Cosine, WarmupSteps: 3}}
	sync := newTrainer(t, trainer.Config{Spec: valid(t, spec), Model: files, Rows: data})
	before := evalLoss(t, sync, data)
	train(t, sync, math.MaxUint64)
	spec.GlobalBatchSize, spec.MaxSteps, spec.LRScheduler.WarmupSteps = 4, 144, 9
	spec.Parallel = job.Parallel{Sync: job.DiLoCo, InnerSteps: 4, OuterLR: new(0.7), OuterMomentum: new(0.5)}
	apart, reports := roam(t, 3, trainer.Config{Spec: valid(t, spec), Model: files, Rows: data})
	together, own := evalLoss(t, sync, data), evalLoss(t, apart, data)
	t.Logf("loss %.3f: %.3f after 48 synchronous steps, %.3f after %d rounds of 4", before, together, own, len(reports))
	if own > together+dilocoGap || own > before/2 {
		t.Errorf("loss %.3f, synchronous steps get to %.3f", own, together)
	}
}
