package trainer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/layout"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// Pass is one micro-batch's way through this member's stage, in one direction.
type Pass struct {
	Micro     uint32 // its number in the round
	Back      bool
	Positions []shard.Range
	Data      []float32 // (tokens, hidden) what the stage before gave, or the gradient of what this one gave; nil at the ends
}

// Line is where a stage's passes come from and where their results go: it knows the other stages, and which of
// their members has which micro-batch.
type Line interface {
	// Next waits for something to compute and returns io.EOF when the work is done: every micro-batch that went forward
	// here has come back.
	Next(ctx context.Context, w Work) (Pass, error)
	// Done hands over what became of the Data: what goes to the next stage, or the gradient that goes to the one
	// before; nil where there is none. It does not wait for the network.
	Done(ctx context.Context, p Pass, out []float32) error
}

// errPart answers who wants of a part what takes the whole model.
var errPart = errors.New("this member holds a part of the model alone: it can neither measure nor export it")

// errMoved ends a round of a part that this member does not hold any more.
var errMoved = fmt.Errorf("this member was given another part of the model in the round: %w", ErrAttempt)

// flows reports whether what this member computes comes to it over a line.
func (t *Trainer) flows() bool { return t.whole != nil || t.isPart() }

// isPart reports whether this member holds a part of the model.
func (t *Trainer) isPart() bool {
	return t.part != model.Part{} && t.part != model.Part{Hi: t.model.Row()}
}

func (t *Trainer) checkPart() error {
	switch p := t.part; {
	case t.whole != nil:
		return t.checkWhole()
	case !t.isPart():
		return nil
	case p.Lo < 0 || p.Hi <= p.Lo || p.Hi > t.model.Row():
		return fmt.Errorf("units %d to %d of a model of %d", p.Lo, p.Hi, t.model.Row())
	case t.line == nil && !t.idle:
		return errors.New("a part of a model needs a line to the others")
	case t.owners:
		return errors.New("parallel.zero: 1 and 2 need the whole model on each member; choose zero: 0, or pipeline: 1")
	case t.spec.Parallel.Sync == job.DiLoCo || t.offloads():
		return errors.New("parallel.sync: diloco and parallel.offload go with the whole model on each member; leave them out, or pipeline: 1")
	case t.zero > 0:
		return errors.New("parallel.zero above 0 goes with the whole model on each member; leave the key out, or pipeline: 1")
	case curves(t.rule):
		return errors.New("optimizer sophia needs the whole model on each member; choose another optimizer, or pipeline: 1")
	}
	return nil
}

// loadPart puts the part on the device. The trainer's index space is then the part's own; Spans has its places in the job's.
func (t *Trainer) loadPart(dev kernels.Device, a stage.Adapter) (err error) {
	if t.stage, err = stage.NewPart(computed(t.spec), dev, t.model, a, t.trained, t.part); err != nil {
		return err
	}
	var ps []layout.Param
	for _, p := range t.stage.Train {
		ps = append(ps, layout.Param{Name: p.Name, Unit: p.Unit, Rows: p.Rows, Cols: p.Cols})
	}
	if t.layout, err = layout.New(ps); err == nil {
		t.elems = t.layout.Size
	}
	return err
}

// Spans are where the elements of the job's index space that this member holds lie in its own. With Config.Whole both
// are the same, and there are none.
func (t *Trainer) Spans() []stage.Span {
	if t.whole != nil {
		return nil
	}
	return t.stage.Spans
}

// flow is a stage's part in a round: it computes what the line asks for, until every micro-batch has come back.
type flow struct {
	t    *Trainer
	on   *stage.Stage
	step uint64
	live map[uint32]passing
	free []int // slots
	sums objective.Sums
	done []shard.Range
}

// passing is a micro-batch that went forward and has not come back.
type passing struct {
	slot int
	sums objective.Sums
}

// flow gives the summed gradient of what came back here, and completes p with what it adds up to.
func (t *Trainer) flow(ctx context.Context, w Work, p *Piece) (u []float32, err error) {
	f := &flow{t: t, step: w.Round, live: map[uint32]passing{}}
	if t.whole != nil && t.Part() == (model.Part{}) { // it takes what the others made of the round
		return t.nothing()
	}
	if err := f.begin(); err != nil {
		return nil, err
	}
	for {
		pass, err := t.line.Next(ctx, w)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		out, err := f.run(ctx, pass)
		if err != nil {
			return nil, fmt.Errorf("micro-batch %d: %w", pass.Micro, err)
		}
		if err := t.line.Done(ctx, pass, out); err != nil {
			return nil, err
		}
	}
	p.Positions = f.done
	if t.whole == nil || t.model.Last(f.on.Part) { // what counts for the job is counted once
		p.Tokens, p.Loss = f.sums.Tokens, f.sums.Loss
	}
	return f.end()
}

// nothing is the contribution of a member that computes nothing.
func (t *Trainer) nothing() ([]float32, error) {
	if err := t.lock(); err != nil {
		return nil, err
	}
	defer t.mu.Unlock()
	return t.host.zeros(), nil
}

func (f *flow) begin() error {
	if err := f.t.lock(); err != nil {
		return err
	}
	defer f.t.mu.Unlock()
	if f.t.stage == nil {
		return errors.New("this member holds no part of the model yet")
	}
	f.on = f.t.stage
	f.t.enlarge()
	f.t.stage.ZeroGrad()
	return nil
}

func (f *flow) end() ([]float32, error) {
	t := f.t
	if err := t.lock(); err != nil {
		return nil, err
	}
	defer t.mu.Unlock()
	switch {
	case t.stage != f.on:
		return nil, errMoved
	case len(f.done) == 0 || f.on.G.None():
		return t.host.zeros(), nil
	}
	t.reduce(t.stage.G)
	u := t.host.contribution()
	if t.whole != nil {
		return u, t.spread(u)
	}
	return u, t.download(f.step, u)
}

// run does one pass. Nobody else has the device meanwhile; between passes others may.
func (f *flow) run(ctx context.Context, p Pass) ([]float32, error) {
	if err := f.t.lock(); err != nil {
		return nil, err
	}
	defer f.t.mu.Unlock()
	if f.t.stage != f.on {
		return nil, errMoved
	}
	if p.Back {
		return f.back(ctx, p)
	}
	return f.forth(ctx, p)
}

func (f *flow) forth(ctx context.Context, p Pass) (out []float32, err error) {
	if _, twice := f.live[p.Micro]; twice {
		return nil, errors.New("goes forward twice")
	}
	samples, err := f.t.samples(p.Positions)
	if err != nil {
		return nil, err
	}
	if err := f.t.fill(ctx, samples); err != nil {
		return nil, err
	}
	m := passing{slot: len(f.live)}
	if n := len(f.free); n > 0 {
		m.slot, f.free = f.free[n-1], f.free[:n-1]
	}
	out, m.sums, err = f.t.stage.Forth(ctx, m.slot, f.step, f.t.feed.seqs, p.Data)
	f.live[p.Micro] = m
	return out, err
}

func (f *flow) back(ctx context.Context, p Pass) ([]float32, error) {
	m, ok := f.live[p.Micro]
	if !ok {
		return nil, errors.New("comes back but never went forward")
	}
	delete(f.live, p.Micro)
	f.free = append(f.free, m.slot)
	f.sums.Add(m.sums)
	f.done = append(f.done, p.Positions...)
	return f.t.stage.Back(ctx, m.slot, p.Data)
}
