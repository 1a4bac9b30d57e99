package trainer

import (
	"context"
	"math"

	"github.com/seed-7b27c88a/shoal/trainer/objective"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// EvalReport is what a model does on rows that it does not learn from. Numbers that are not finite, as of a model that
// has diverged, are math.MaxFloat64: JSON has no word for them.
type EvalReport struct {
	Step       uint64  `json:"step"`       // optimizer steps that the weights had seen
	Loss       float64 `json:"loss"`       // mean over target tokens
	Perplexity float64 `json:"perplexity"` // e to the loss
	Accuracy   float64 `json:"accuracy"`   // share of target tokens that the model finds most likely
	Tokens     int64   `json:"tokens"`     // target tokens

	BaseLoss float64      `json:"base_loss,omitempty"` // mean over the tokens of eval.base_text: where it rises, something is forgotten
	Tasks    []TaskReport `json:"tasks,omitempty"`
	Samples  []SampleText `json:"samples,omitempty"`
}

// evaluation is an Eval that is under way. The trainer's lock guards it.
type evaluation struct {
	*stage.Still
	on   *stage.Stage // that it runs on
	step uint64
	lost error     // the weights changed, and why they could not be kept
	kept []float32 // the weights, where they are away and have changed
}

// release gives back what the evaluation took; all is the trainer's own stage.
func (e *evaluation) release(all *stage.Stage) {
	e.Release()
	if e.on != all {
		e.on.Close()
	}
}

// Eval measures the weights of the moment it is called on all rows, a micro-batch at a time. Training may go on
// meanwhile: between micro-batches the device is others', and weights that are about to change are copied first, which
// takes as much device memory as what is trained, until Eval returns. Called from Run's report, where training waits for
// it, nothing is copied. A second Eval waits for the first.
func (t *Trainer) Eval(ctx context.Context, rows Rows) (EvalReport, error) {
	finish, err := t.StartEval(ctx, rows)
	if err != nil {
		return EvalReport{}, err
	}
	return finish(ctx)
}

// StartEval is the first half of Eval: it takes hold of the weights as they are. finish measures them, from any
// goroutine; it must be called exactly once.
func (t *Trainer) StartEval(ctx context.Context, rows Rows) (finish func(context.Context) (EvalReport, error), err error) {
	return t.StartMeasure(ctx, Measure{Held: rows})
}

func (t *Trainer) evaluate(ctx context.Context, e *evaluation, rows Rows) (EvalReport, error) {
	f := feeder{model: t.model, over: t.parts.over(), rows: rows}
	var sums objective.Sums
	for lo, n := 0, rows.Rows(); lo < n; lo += t.spec.MicroBatchSize {
		f.clear()
		for i := lo; i < min(n, lo+t.spec.MicroBatchSize); i++ {
			if err := f.add(ctx, i, 0); err != nil {
				return EvalReport{}, err
			}
		}
		s, err := t.measure(ctx, e, f)
		if err != nil {
			return EvalReport{}, err
		}
		sums.Add(s)
	}
	return evalReport(e.step, sums), nil
}

func evalReport(step uint64, s objective.Sums) EvalReport {
	r := EvalReport{Step: step, Tokens: s.Tokens}
	if n := float64(s.Tokens); n > 0 {
		r.Loss, r.Accuracy = s.Loss/n, float64(s.Correct)/n
		r.Perplexity = math.Exp(r.Loss)
	}
	for _, x := range []*float64{&r.Loss, &r.Perplexity} {
		if !finite(*x) {
			*x = math.MaxFloat64
		}
	}
	return r
}

func (t *Trainer) beginEval() (*evaluation, error) {
	if err := t.lock(); err != nil {
		return nil, err
	}
	defer t.mu.Unlock()
	switch {
	case t.whole != nil:
		return t.beginWholeEval()
	case t.isPart():
		return nil, errPart
	}
	t.eval = &evaluation{Still: t.stage.Still(), on: t.stage, step: t.step}
	return t.eval, nil
}

// endEval gives back what the evaluation took, unless Close has done so.
func (t *Trainer) endEval() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.eval != nil {
		t.eval.release(t.stage)
		t.scratch.Free(t.eval.kept)
		t.eval = nil
		if t.whole != nil {
			t.whole.lent = false
		}
	}
}

// measure runs one micro-batch.
func (t *Trainer) measure(ctx context.Context, e *evaluation, f feeder) (objective.Sums, error) {
	if err := t.lock(); err != nil {
		return objective.Sums{}, err
	}
	defer t.mu.Unlock()
	if e.lost != nil {
		return objective.Sums{}, e.lost
	}
	defer t.show(e)()
	sums, err := e.on.Eval(ctx, e.Still, f.seqs)
	return sums, t.measured(err)
}

// changing comes before every change of the weights. An evaluation that cannot keep its own fails; training does not.
func (t *Trainer) changing() {
	if t.whole != nil {
		t.keepWhole()
		return
	}
	t.stage.Changed()
	if t.away != nil {
		if err := t.changeAway(); err != nil && t.eval.lost == nil {
			t.eval.lost = err
		}
		return
	}
	if t.eval != nil && t.eval.lost == nil {
		t.eval.lost = t.eval.Keep()
	}
}
