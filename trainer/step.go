package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/seed-7b27c88a/shoal/trainer/optim"
)

// Apply takes one optimizer step with the reduced gradient g (Σu/Σw) and what the cut knew. It is how every step is
// taken, and how a member that missed some replays committed gradients. A step without target tokens or with numbers
// that are not finite changes nothing but the count of steps, and says so.
//
// Rules that count steps count skipped ones too, so that state is a function of the step alone.
func (t *Trainer) Apply(g []float32, tot Totals) (StepReport, error) {
	if err := t.lock(); err != nil {
		return StepReport{}, err
	}
	defer t.mu.Unlock()
	if len(g) != t.layout.Size {
		return StepReport{}, fmt.Errorf("gradient of %d elements for an index space of %d", len(g), t.layout.Size)
	}
	if t.apart != nil {
		return t.conclude(g, tot)
	}
	if t.owned != nil {
		return StepReport{}, errors.New("owners step: a member alone cannot")
	}
	return t.take(tot, func(r *StepReport) error {
		t.upload(r.Step, g)
		return t.update(r.Step, r)
	})
}

// take takes the step unless it has to be skipped; change changes the weights.
func (t *Trainer) take(tot Totals, change func(r *StepReport) error) (StepReport, error) {
	step := t.step + 1
	r := t.report(step, tot)
	if !r.Skipped && t.elems > 0 {
		if err := change(&r); err != nil {
			return StepReport{}, fmt.Errorf("optimizer step: %w", err)
		}
	}
	t.scale = t.scale.After(r)
	t.step, r.Passed = step, t.scale.Skipped
	return r, nil
}

func (t *Trainer) report(step uint64, tot Totals) StepReport {
	r := StepReport{Step: step, LR: t.spec.LR(step, t.steps), Tokens: tot.Tokens, Peers: tot.Peers,
		Time: time.Since(t.started).Seconds()}
	r.LossScale = t.factor()
	if tot.Tokens > 0 {
		r.Loss = tot.Loss / float64(tot.Tokens)
		r.GradNorm = math.Sqrt(tot.SumSq) / float64(tot.Tokens)
	}
	r.Skipped = tot.Tokens <= 0 || tot.NonFinite || !finite(r.GradNorm)
	if !finite(r.Loss) { // JSON has no word for it
		r.Loss = 0
	}
	if !finite(r.GradNorm) {
		r.GradNorm = 0
	}
	return r
}

// update takes the optimizer's step-th step in the round that r is of.
func (t *Trainer) update(step uint64, r *StepReport) error {
	if err := t.bend(r); err != nil {
		return err
	}
	clip := optim.Clip(r.GradNorm, *t.spec.MaxGradNorm)
	s := t.stage
	t.changing()
	t.opt.Step(optim.Now{Step: step, LR: r.LR, Clip: clip}, s.W, s.G, 0, t.elems)
	return s.Stream.Sync(context.Background())
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
