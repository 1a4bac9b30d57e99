// Package line joins a trainer that holds a part of a model to the pipeline of its job: the trainer sees a Line of passes
// over positions, the network a member that computes micro-batches.
//
// Concurrency. Begin may be called while the trainer waits; Next and Done belong to the trainer.
package line

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/pipe"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// Stage is a trainer's end of a pipeline. It implements trainer.Line.
type Stage struct {
	pipe *pipe.Line

	mu     sync.Mutex // guards the rest
	micros map[at][]shard.Range
	began  time.Time // the pass that the trainer is in
}

// at names a micro-batch of an attempt.
type at struct {
	round   uint64
	attempt uint32
	micro   uint32
}

// New makes the trainer's end of a line.
func New(l *pipe.Line) *Stage { return &Stage{pipe: l, micros: map[at][]shard.Range{}} }

// Begin starts a round, or another attempt of it: micros are the positions of each micro-batch.
func (s *Stage) Begin(p pipe.Plan, micros [][]shard.Range) error {
	if len(micros) != len(p.Homes) {
		return fmt.Errorf("positions of %d micro-batches, %d in the plan", len(micros), len(p.Homes))
	}
	s.mu.Lock()
	clear(s.micros)
	for i, r := range micros {
		s.micros[at{p.Round, p.Attempt, uint32(i)}] = r
	}
	s.mu.Unlock()
	return s.pipe.Begin(p)
}

// Next implements trainer.Line.
func (s *Stage) Next(ctx context.Context, w trainer.Work) (trainer.Pass, error) {
	t, err := s.pipe.Next(ctx, w.Round, w.Attempt)
	if errors.Is(err, pipe.ErrStale) {
		return trainer.Pass{}, trainer.ErrAttempt
	}
	if err != nil {
		return trainer.Pass{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = time.Now()
	return trainer.Pass{Micro: t.Micro, Back: t.Back, Positions: s.micros[at{w.Round, w.Attempt, t.Micro}], Data: t.Data}, nil
}

// Done implements trainer.Line.
func (s *Stage) Done(_ context.Context, _ trainer.Pass, out []float32) error {
	s.mu.Lock()
	took := time.Since(s.began)
	s.mu.Unlock()
	s.pipe.Done(out, took)
	return nil
}
