package trainer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
)

// Run works on what src hands out until the job's last step, and reports every step. ErrExcluded, wrapped or not, says
// that the state has to be restored; Run may be called again after that.
func (t *Trainer) Run(ctx context.Context, src Source, col Collective, report func(StepReport)) error {
	if t.idle {
		return errIdle
	}
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
// member steps; where owners step, step and gather change places (stepped).
func (t *Trainer) round(ctx context.Context, work Work, col Collective) (r StepReport, err error) {
	samples, err := t.batch(work)
	if err != nil {
		return r, err
	}
	if _, ok := col.(*Solo); ok && t.away != nil {
		return t.aloneAway(ctx, work, samples)
	} else if ok && t.owned == nil && t.apart == nil && !t.flows() {
		return t.alone(ctx, work.Round, samples)
	}
	piece := Piece{Round: work.Round, Attempt: work.Attempt, Positions: work.Positions}
	u, err := t.contribute(ctx, work, samples, &piece, col) // forward, backward
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
	if t.owned != nil {
		return t.stepped(ctx, work, col, own, totals)
	}
	g, err := t.result()
	if err != nil {
		return r, err
	}
	if err := col.Gather(ctx, work.Round, own, g); err != nil {
		return r, err
	}
	t.over() // nobody reads contributions any more
	return t.Apply(g, totals)
}

// batch lists the samples of the work.
func (t *Trainer) batch(w Work) ([]uint64, error) {
	if done := t.Step(); w.Round != done+1 {
		return nil, fmt.Errorf("work is for step %d, this member has done %d: %w", w.Round, done, ErrExcluded)
	}
	return t.samples(w.Positions)
}

// samples lists those of some positions.
func (t *Trainer) samples(positions []shard.Range) ([]uint64, error) {
	var samples []uint64
	for _, r := range positions {
		if most := t.mostSamples(); r.Hi < r.Lo || r.Len() > most-uint64(len(samples)) {
			return nil, fmt.Errorf("work of more than %d positions", most)
		}
		for s := r.Lo; s < r.Hi; s++ {
			samples = append(samples, s)
		}
	}
	return samples, nil
}

// contribute computes the summed gradient of the samples alone, and completes p with what they add up to.
func (t *Trainer) contribute(ctx context.Context, w Work, samples []uint64, p *Piece, col Collective) ([]float32, error) {
	switch {
	case t.flows():
		return t.flow(ctx, w, p)
	case t.apart != nil && len(samples) > 0:
		return t.explore(ctx, w, samples, p, col)
	}
	step := w.Round
	if err := t.lock(); err != nil {
		return nil, err
	}
	defer t.mu.Unlock()
	if len(samples) == 0 {
		return t.host.zeros(), nil
	}
	if t.away != nil {
		return t.sumAway(ctx, w, samples, p)
	}
	sums, err := t.sum(ctx, step, samples)
	if err != nil {
		return nil, err
	}
	p.Tokens, p.Loss = sums.Tokens, sums.Loss
	u := t.host.contribution()
	return u, t.download(step, u)
}

// sum leaves the summed gradient of the samples in the stage, a micro-batch after the other.
func (t *Trainer) sum(ctx context.Context, step uint64, samples []uint64) (all objective.Sums, err error) {
	t.enlarge()
	if err := t.draw(ctx, step, samples); err != nil {
		return all, err
	}
	t.stage.ZeroGrad()
	for micro := range slices.Chunk(samples, t.spec.MicroBatchSize) {
		if err := ctx.Err(); err != nil { // excluded, or not wanted any more
			return all, err
		}
		sums, err := t.pass(ctx, step, micro)
		if err != nil {
			return all, err
		}
		all.Add(sums)
	}
	if t.away == nil {
		t.reduce(t.stage.G)
	}
	return all, nil
}

// pass runs one micro-batch forward and backward.
func (t *Trainer) pass(ctx context.Context, step uint64, samples []uint64) (objective.Sums, error) {
	if err := t.fill(ctx, samples); err != nil {
		return objective.Sums{}, err
	}
	sums, err := t.stage.Forward(ctx, step, t.feed.seqs)
	if err == nil {
		err = t.stage.Backward(ctx)
	}
	if door := t.stage.Gathered(); err != nil && door != nil {
		door.Drop() // units that were in use when the pass ended
	}
	return sums, err
}

// fill feeds the rows of a micro-batch.
func (t *Trainer) fill(ctx context.Context, samples []uint64) error {
	t.feed.clear()
	for _, s := range samples {
		if err := t.feed.add(ctx, int(t.sampler.Row(s)), int32(s&0x7fffffff)); err != nil {
			return err
		}
	}
	return nil
}

// result is where the round's gradient goes.
func (t *Trainer) result() ([]float32, error) {
	if err := t.lock(); err != nil {
		return nil, err
	}
	defer t.mu.Unlock()
	return t.host.gradient(), nil
}

func (t *Trainer) over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.host.over()
}

func (t *Trainer) abandon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.host.abandon()
}

// samplesOf is the stream range of one step.
func (t *Trainer) samplesOf(step uint64) shard.Range {
	lo, hi := t.spec.Batch(uint64(t.rows.Rows()), step)
	return shard.Range{Lo: lo, Hi: hi}
}
