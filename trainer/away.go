package trainer

import (
	"context"
	"fmt"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/gather"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// away is the weights of a job that no memory has to hold (parallel.zero: 3): they lie in a vector of a file, as do the
// contribution and the result of a round. A unit's weights come to the device as they are used, and its gradient
// goes to the contribution when it is complete. The trainer's lock guards it, but for Gather and Scatter, which the
// stage's door calls while somebody has the lock.
//
// Weights of the model that do not learn (unfrozen_parameters) are read from its files each time.
type away struct {
	units  [][]*autograd.Param // all of the model's, in model order
	learns map[*autograd.Param]bool
	frozen gather.Reader

	w     []float32                // of now
	shown []float32                // that passes read: w, or those that an evaluation has kept
	u     []float32                // the contribution that is being made
	blank map[*autograd.Param]bool // of u: not written yet
}

// streams reports whether weights that learn come to the device as they are used. Those of an adapter are small and stay.
func (t *Trainer) streams() bool { return t.zero == 3 && t.adapter == nil }

// loadAway takes room for the weights, reads them, and makes a stage that keeps none of them.
func (t *Trainer) loadAway(dev kernels.Device) error {
	w, err := t.scratch.Vector(t.elems)
	if err != nil {
		return err
	}
	a := &away{learns: map[*autograd.Param]bool{}, blank: map[*autograd.Param]bool{}, frozen: t.model.ReadPieces, w: w, shown: w}
	for _, p := range t.trained {
		a.learns[p] = true
		if err := t.model.Read(p, w[p.Off:p.Off+p.Len()]); err != nil {
			return fmt.Errorf("load weights: %w", err)
		}
	}
	for _, p := range t.model.Params {
		for len(a.units) <= p.Unit {
			a.units = append(a.units, nil)
		}
		a.units[p.Unit] = append(a.units[p.Unit], p)
	}
	t.away = a
	t.stage, err = stage.NewGathered(computed(t.spec), dev, t.model, nil, t.trained, t.elems, a)
	return err
}

// Gather implements gather.Source.
func (a *away) Gather(ctx context.Context, unit int, dst []float32) error {
	return a.GatherPieces(ctx, unit, func(lo int, v []float32) { copy(dst[lo:], v) })
}

// GatherPieces implements gather.Pieces.
func (a *away) GatherPieces(ctx context.Context, unit int, put func(lo int, v []float32)) error {
	at := 0
	for _, p := range a.units[unit] {
		if a.learns[p] {
			put(at, a.shown[p.Off:][:p.Len()])
		} else {
			err := a.frozen(p, func(lo int, v []float32) error {
				put(at+lo, v)
				return ctx.Err()
			})
			if err != nil {
				return fmt.Errorf("read %s: %w", p.Name, err)
			}
		}
		at += p.Len()
	}
	return ctx.Err()
}

// Scatter implements gather.Source. Micro-batches add up in their order.
func (a *away) Scatter(_ context.Context, unit int, g []float32) error {
	for _, p := range a.units[unit] {
		from := g[:p.Len()]
		if g = g[p.Len():]; !a.learns[p] {
			continue
		}
		to := a.u[p.Off:][:p.Len()]
		if a.blank[p] {
			copy(to, from)
			delete(a.blank, p)
			continue
		}
		for i, x := range from {
			to[i] += x
		}
	}
	return nil
}

// begin lets passes add to a contribution, whatever it holds now.
func (a *away) begin(u []float32) {
	a.u = u
	for p := range a.learns {
		a.blank[p] = true
	}
}

// end completes the contribution: what the loss does not depend on has no gradient, and what the loss was multiplied by
// is taken out, which is exact.
func (a *away) end(scale float32) {
	for p := range a.blank {
		clear(a.u[p.Off:][:p.Len()])
	}
	if scale != 1 {
		for i := range a.u {
			a.u[i] *= 1 / scale
		}
	}
	a.u = nil
}

// sumAway is contribute where weights are away: the gradient never is on the device as a whole.
func (t *Trainer) sumAway(ctx context.Context, w Work, samples []uint64, p *Piece) ([]float32, error) {
	u := t.host.contribution()
	t.away.begin(u)
	sums, err := t.sum(ctx, w.Round, samples)
	if err != nil {
		return nil, err
	}
	t.away.end(t.stage.LossScale)
	p.Tokens, p.Loss = sums.Tokens, sums.Loss
	return u, nil
}

// aloneAway is a round of a process that trains alone: it owns all chunks.
func (t *Trainer) aloneAway(ctx context.Context, work Work, samples []uint64) (StepReport, error) {
	p := Piece{Round: work.Round, Positions: work.Positions}
	u, err := t.contribute(ctx, work, samples, &p, nil)
	if err != nil {
		return StepReport{}, err
	}
	tot := Totals{Tokens: p.Tokens, Loss: p.Loss, Peers: 1}
	own := make([]Chunk, len(t.layout.Chunks))
	for i, c := range t.layout.Chunks {
		own[i] = Chunk{c.Lo, c.Hi, u[c.Lo:c.Hi]}
		tot.SumSq += sumSq(own[i].V)
	}
	tot.NonFinite = !finite(tot.SumSq) || !finite(tot.Loss)
	for i := range u {
		u[i] = float32(float64(u[i]) / float64(max(tot.Tokens, 1)))
	}
	if own, err = t.tryStep(own, tot); err != nil {
		return StepReport{}, err
	}
	after, err := t.result()
	if err != nil {
		return StepReport{}, err
	}
	for _, c := range own {
		copy(after[c.Lo:], c.V)
	}
	t.over()
	return t.adopt(after, tot)
}

// changeAway comes before the weights change: nothing on the device is what they are, and an evaluation keeps its own.
func (t *Trainer) changeAway() error {
	t.stage.Gathered().Drop()
	if t.eval == nil || t.eval.kept != nil {
		return nil
	}
	kept, err := t.scratch.Vector(t.elems)
	if err != nil {
		return fmt.Errorf("keep the weights that are being measured: %w", err)
	}
	copy(kept, t.away.w)
	t.eval.kept = kept
	return nil
}

// show lets passes read the weights of an evaluation until hide is called.
func (t *Trainer) show(e *evaluation) (hide func()) {
	if e.kept == nil {
		return func() {}
	}
	door := t.stage.Gathered()
	door.Drop()
	t.away.shown = e.kept
	return func() {
		door.Drop()
		t.away.shown = t.away.w
	}
}

// value copies a weight that learns; false: it does not.
func (a *away) value(p *autograd.Param) ([]float32, bool) {
	if a == nil || !a.learns[p] {
		return nil, false
	}
	return append([]float32(nil), a.w[p.Off:p.Off+p.Len()]...), true
}
