package trainer_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/layout"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// pipe joins the stages of a model in this process: every one works in the order of 1F1B.
type pipe struct {
	micro       int
	forth, back []chan []float32 // between a stage and the next
}

func newPipe(stages, micro int) *pipe {
	p := &pipe{micro: micro}
	for range stages - 1 {
		p.forth, p.back = append(p.forth, make(chan []float32, 64)), append(p.back, make(chan []float32, 64))
	}
	return p
}

// pipeEnd is a stage's end of it.
type pipeEnd struct {
	*pipe
	stage int
	round uint64
	order []stage.Task
}

func (l *pipeEnd) Next(ctx context.Context, w trainer.Work) (p trainer.Pass, err error) {
	lo, hi := w.Positions[0].Lo, w.Positions[0].Hi
	if l.round != w.Round {
		l.round, l.order = w.Round, stage.OneFOneB(l.stage, len(l.forth)+1, (int(hi-lo)+l.micro-1)/l.micro)
	}
	if len(l.order) == 0 {
		return p, io.EOF
	}
	k := l.order[0]
	l.order = l.order[1:]
	lo += uint64(k.Micro * l.micro)
	p = trainer.Pass{Micro: uint32(k.Micro), Back: k.Back, Positions: []shard.Range{{Lo: lo, Hi: min(lo+uint64(l.micro), hi)}}}
	var from chan []float32
	switch {
	case !k.Back && l.stage > 0:
		from = l.forth[l.stage-1]
	case k.Back && l.stage < len(l.forth):
		from = l.back[l.stage]
	default:
		return p, nil
	}
	select {
	case p.Data = <-from:
		return p, nil
	case <-ctx.Done():
		return p, ctx.Err()
	}
}

func (l *pipeEnd) Done(_ context.Context, p trainer.Pass, out []float32) error {
	if !p.Back && l.stage < len(l.forth) {
		l.forth[l.stage] <- out
	}
	if p.Back && l.stage > 0 {
		l.back[l.stage-1] <- out
	}
	return nil
}

// table is where the stages of one process agree on a step: gradients of weights that several hold are added, the norm is
// that of the whole.
type table struct {
	mu      sync.Mutex
	all     *layout.Layout
	members int
	rounds  map[uint64]*agreement
}

type agreement struct {
	pieces []trainer.Piece
	u      [][]float32
	came   int
	full   chan struct{}
	g      []float32
	tot    trainer.Totals
}

// seat is a stage's place at the table.
type seat struct {
	*table
	i     int
	spans [][]stage.Span
}

func (s *seat) at(round uint64) *agreement {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rounds[round] == nil {
		s.rounds[round] = &agreement{full: make(chan struct{}), u: make([][]float32, s.members), pieces: make([]trainer.Piece, s.members)}
	}
	return s.rounds[round]
}

func (s *seat) Reduce(_ context.Context, p trainer.Piece, u []float32) error {
	a := s.at(p.Round)
	s.mu.Lock()
	defer s.mu.Unlock()
	a.pieces[s.i], a.u[s.i] = p, u
	if a.came++; a.came == s.members {
		s.agree(a)
		close(a.full)
	}
	return nil
}

func (s *seat) agree(a *agreement) {
	a.g = make([]float32, s.all.Size)
	for i, u := range a.u {
		for _, sp := range s.spans[i] {
			for k := sp.Lo; k < sp.Hi; k++ {
				a.g[k] += u[sp.At+k-sp.Lo]
			}
		}
		if a.pieces[i].Tokens != a.pieces[0].Tokens {
			panic(fmt.Sprintf("stage %d counts %d tokens, stage 0 %d", i, a.pieces[i].Tokens, a.pieces[0].Tokens))
		}
		a.tot.Loss += a.pieces[i].Loss
	}
	for _, x := range a.g {
		a.tot.SumSq += float64(x) * float64(x)
	}
	a.tot.Tokens, a.tot.Peers = a.pieces[0].Tokens, 1
}

func (s *seat) Cut(ctx context.Context, round uint64) ([]trainer.Chunk, trainer.Totals, error) {
	a := s.at(round)
	select {
	case <-a.full:
		return nil, a.tot, nil
	case <-ctx.Done():
		return nil, trainer.Totals{}, ctx.Err()
	}
}

func (s *seat) Gather(_ context.Context, round uint64, _ []trainer.Chunk, dst []float32) error {
	a := s.at(round)
	for _, sp := range s.spans[s.i] {
		for k := sp.Lo; k < sp.Hi; k++ {
			dst[sp.At+k-sp.Lo] = float32(float64(a.g[k]) / float64(a.tot.Tokens))
		}
	}
	return nil
}

// TestReferenceCurvesInParts is TestReferenceCurves with the model cut into stages, each a trainer of its own.
func TestReferenceCurvesInParts(t *testing.T) {
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
		stages  []int
	}{{"full", fullSpec(), nil, meta.Full, full([]int{3}, 2, 5)}, {"lora", loraSpec(), adapterDir(t), meta.Lora, full([]int{5}, 3)}} {
		for _, stages := range tc.stages {
			t.Run(fmt.Sprintf("%s, %d stages", tc.name, stages), func(t *testing.T) {
				spec := tc.spec
				spec.MicroBatchSize = 1
				c := trainer.Config{Spec: valid(t, spec), Model: base, Adapter: tc.adapter, Rows: train}
				compare(t, trainParts(t, c, stages), tc.want)
			})
		}
	}
}

// trainParts runs a job to its end on stages and returns the last one's reports.
func trainParts(t *testing.T, c trainer.Config, stages int) (reports []trainer.StepReport) {
	t.Helper()
	all, err := trainer.Layout(c.Spec, c.Model, c.Adapter)
	if err != nil {
		t.Fatal(err)
	}
	const row = 7 // units of the model: its embedding, five blocks and a head
	p := newPipe(stages, c.Spec.MicroBatchSize)
	at := &table{all: all, members: stages, rounds: map[uint64]*agreement{}}
	var spans [][]stage.Span
	var trs []*trainer.Trainer
	for i := range stages {
		c.Part, c.Line = model.Part{Lo: i * row / stages, Hi: (i + 1) * row / stages}, &pipeEnd{pipe: p, stage: i}
		tr := newTrainer(t, c)
		trs, spans = append(trs, tr), append(spans, tr.Spans())
	}
	var wg sync.WaitGroup
	for i, tr := range trs {
		wg.Go(func() {
			err := tr.Run(t.Context(), tr.Local(), &seat{at, i, spans}, func(r trainer.StepReport) {
				if i == stages-1 {
					reports = append(reports, r)
				}
			})
			if err != nil {
				t.Errorf("stage %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() || math.IsNaN(reports[0].Loss) {
		t.FailNow()
	}
	return reports
}
