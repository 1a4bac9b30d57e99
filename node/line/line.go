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

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/pipe"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// Stage is a trainer's end of a pipeline. It implements trainer.Line.
type Stage struct {
	pipe *pipe.Line

	mu     sync.Mutex // guards the rest
	micros map[at][]shard.Range
	began  time.Time                // the pass that the trainer is in
	took   map[uint32]time.Duration // per micro-batch, both ways
	waited map[uint64]time.Duration // in Next, by round: of this one and the last
}

// at names a micro-batch of an attempt.
type at struct {
	round   uint64
	attempt uint32
	micro   uint32
}

// New makes the trainer's end of a line.
func New(l *pipe.Line) *Stage {
	return &Stage{pipe: l, micros: map[at][]shard.Range{}, took: map[uint32]time.Duration{}, waited: map[uint64]time.Duration{}}
}

// Finished says that a micro-batch is part of this member's sum, and how long both its passes took.
type Finished struct {
	pipe.Key
	Micro uint32
	Took  time.Duration
}

// Events tell whoever joined what happens, one at a time; see pipe.Events.
type Events struct {
	Finished    func(Finished)
	Unreachable func(k pipe.Key, id record.PeerID, err error)
}

// Join makes this node a stage of a job until Close.
func Join(e *pipe.Exchange, job cid.Cid, self record.PeerID, codec exact.Codec, on Events) (*Stage, error) {
	s := New(nil)
	l, err := e.Join(job, self, codec, pipe.Events{
		Finished:    func(k pipe.Key, micro uint32) { on.Finished(Finished{k, micro, s.tookFor(micro)}) },
		Unreachable: on.Unreachable,
	})
	s.pipe = l // nothing happens before Begin
	return s, err
}

func (s *Stage) tookFor(micro uint32) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.took[micro]
}

// Lost says that a member does not count any more in the round.
func (s *Stage) Lost(id record.PeerID) { s.pipe.Lost(id) }

// End ends the round: the trainer's Next returns io.EOF until the next Begin.
func (s *Stage) End() { s.pipe.End() }

// Close leaves the job.
func (s *Stage) Close() { s.pipe.Close() }

// Waited is how long the trainer has waited for something to compute in the round that began last, or the one before.
func (s *Stage) Waited(round uint64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waited[round]
}

// Begin starts a round, or another attempt of it: micros are the positions of each micro-batch.
func (s *Stage) Begin(p pipe.Plan, micros [][]shard.Range) error {
	if len(micros) != len(p.Homes) {
		return fmt.Errorf("positions of %d micro-batches, %d in the plan", len(micros), len(p.Homes))
	}
	s.mu.Lock()
	clear(s.micros)
	clear(s.took)
	for round := range s.waited {
		if round+1 < p.Round || round > p.Round {
			delete(s.waited, round)
		}
	}
	for i, r := range micros {
		s.micros[at{p.Round, p.Attempt, uint32(i)}] = r
	}
	s.mu.Unlock()
	return s.pipe.Begin(p)
}

// Next implements trainer.Line.
func (s *Stage) Next(ctx context.Context, w trainer.Work) (trainer.Pass, error) {
	asked := time.Now()
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
	s.waited[w.Round] += s.began.Sub(asked)
	return trainer.Pass{Micro: t.Micro, Back: t.Back, Positions: s.micros[at{w.Round, w.Attempt, t.Micro}], Data: t.Data}, nil
}

// Done implements trainer.Line.
func (s *Stage) Done(_ context.Context, p trainer.Pass, out []float32) error {
	s.mu.Lock()
	took := time.Since(s.began)
	s.took[p.Micro] += took
	s.mu.Unlock()
	s.pipe.Done(out, took)
	return nil
}
