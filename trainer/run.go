package trainer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
)

// Run works on what src hands out until the job's last step, and reports every step. ErrExcluded, wrapped or not, says
// that the state has to be restored; Run may be called again after that.
func (t *Trainer) Run(ctx context.Context, src Source, col Collective, report func(StepReport)) error {
	defer t.abandon()
	for {
		work, err := src.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		r, err := t.round(ctx, work, col)
		if errors.Is(err, ErrAttempt) {
			continue // the same weights, other positions; pieces handed in stay as they are
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", work.Round, err)
		}
		report(r)
	}
}

// round is one optimizer step as this member sees it. With replicated state (zero 0) the gradient is gathered and every
// member steps; where owners step, step and gather change places.
func (t *Trainer) round(ctx context.Context, work Work, col Collective) (r StepReport, err error) {
	samples, err := t.batch(work)
	if err != nil {
		return r, err
	}
	piece := Piece{Round: work.Round, Attempt: work.Attempt, Positions: work.Positions}
	u, err := t.contribute(ctx, work.Round, samples, &piece) // forward, backward
	if err != nil {
		return r, err
	}
	if err := col.Reduce(ctx, piece, u); err != nil {
		return r, err
	}
	own, totals, err := col.Cut(ctx, work.Round)
	if err != nil {
		return r, err
	}
	g := t.buffer()
	if err := col.Gather(ctx, work.Round, own, g); err != nil {
		return r, err
	}
	defer t.reuse() // the round is over: nobody reads contributions any more
	return t.Apply(g, totals)
}

// batch lists the samples of the work.
func (t *Trainer) batch(w Work) ([]uint64, error) {
	if done := t.Step(); w.Round != done+1 {
		return nil, fmt.Errorf("work is for step %d, this member has done %d: %w", w.Round, done, ErrExcluded)
	}
	var samples []uint64
	for _, r := range w.Positions {
		if r.Hi < r.Lo || r.Len() > uint64(t.spec.GlobalBatchSize-len(samples)) {
			return nil, fmt.Errorf("work of more than the batch of %d positions", t.spec.GlobalBatchSize)
		}
		for s := r.Lo; s < r.Hi; s++ {
			samples = append(samples, s)
		}
	}
	return samples, nil
}

// contribute computes the summed gradient of the samples alone, and completes p with what they add up to.
func (t *Trainer) contribute(ctx context.Context, step uint64, samples []uint64, p *Piece) ([]float32, error) {
	u := t.buffer()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stage.ZeroGrad()
	for micro := range slices.Chunk(samples, t.spec.MicroBatchSize) {
		seqs, err := t.sequences(ctx, micro)
		if err != nil {
			return nil, err
		}
		sums, err := t.stage.Forward(ctx, step, seqs)
		if err != nil {
			return nil, err
		}
		if err := t.stage.Backward(ctx); err != nil {
			return nil, err
		}
		p.Tokens += sums.Tokens
		p.Loss += sums.Loss
	}
	return u, t.stage.Stream.Download(u, t.stage.G)
}

// sequences reads the rows of samples.
func (t *Trainer) sequences(ctx context.Context, samples []uint64) ([]model.Sequence, error) {
	seqs := make([]model.Sequence, len(samples))
	for i, s := range samples {
		row := t.sampler.Row(s)
		ids, labels, err := t.rows.Row(ctx, int(row))
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", row, err)
		}
		seqs[i] = model.Sequence{IDs: ids, Target: objective.Targets(labels), Key: int32(s & 0x7fffffff)}
		if err := t.model.Check(seqs[i]); err != nil {
			return nil, fmt.Errorf("row %d: %w", row, err)
		}
	}
	return seqs, nil
}

// buffer is a vector over the index space that stays untouched until reuse.
func (t *Trainer) buffer() []float32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var u []float32
	if n := len(t.free); n > 0 {
		u, t.free = t.free[n-1], t.free[:n-1]
	} else {
		u = make([]float32, t.elems)
	}
	t.live = append(t.live, u)
	return u
}

// reuse gives all buffers back: the round is over.
func (t *Trainer) reuse() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free = append(t.free, t.live...)
	t.live = t.live[:0]
}

// abandon forgets the buffers of a round that was left: whoever they were handed to may still read them.
func (t *Trainer) abandon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live = nil
}

// samplesOf is the stream range of one step.
func (t *Trainer) samplesOf(step uint64) shard.Range {
	lo, hi := t.spec.Batch(uint64(t.rows.Rows()), step)
	return shard.Range{Lo: lo, Hi: hi}
}
