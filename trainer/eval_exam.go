package trainer

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/seed-7b27c88a/shoal/trainer/exam"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
)

// Measure is what is looked at in an evaluation.
type Measure struct {
	Held Rows                 // nil: no rows are held out
	Exam *exam.Exam           // nil: nothing is asked
	Text func([]int32) string // of new tokens, for samples
}

// Due tells whether to measure after a step of so many: at the end, every so many steps, and before the first if there
// is a text to forget or a question to learn to answer.
func (m Measure) Due(e job.Eval, step, steps uint64) bool {
	every := uint64(max(e.EverySteps, 0))
	switch {
	case m.Held == nil && m.Exam.Empty():
		return false
	case step == 0:
		return !m.Exam.Empty()
	}
	return step == steps || every > 0 && step%every == 0
}

// TaskReport is how many questions of a file were answered right.
type TaskReport struct {
	Name      string  `json:"name"`
	Questions int     `json:"questions"`
	Choice    bool    `json:"choice"`
	Accuracy  float64 `json:"accuracy"`           // of the most likely option, or of what was said
	Normed    float64 `json:"acc_norm,omitempty"` // the most likely option per byte: longer ones are not at a disadvantage
}

// SampleText is what the model made of a prompt.
type SampleText struct {
	Prompt string `json:"prompt"`
	Text   string `json:"text"`
}

// sampleTokens is how far a prompt is continued. Each token is a pass over all before it.
const sampleTokens = 32

// Measure is Eval of everything in m.
func (t *Trainer) Measure(ctx context.Context, m Measure) (EvalReport, error) {
	finish, err := t.StartMeasure(ctx, m)
	if err != nil {
		return EvalReport{}, err
	}
	return finish(ctx)
}

// StartMeasure is the first half of Measure, as StartEval is of Eval.
func (t *Trainer) StartMeasure(ctx context.Context, m Measure) (finish func(context.Context) (EvalReport, error), err error) {
	if t.idle {
		return nil, errIdle
	}
	select {
	case t.evals <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	e, err := t.beginEval()
	if err != nil {
		<-t.evals
		return nil, err
	}
	return func(ctx context.Context) (r EvalReport, err error) {
		defer func() { <-t.evals }()
		defer t.endEval()
		r.Step = e.step
		if m.Held != nil {
			if r, err = t.evaluate(ctx, e, m.Held); err != nil {
				return r, err
			}
		}
		if m.Exam.Empty() {
			return r, nil
		}
		x := examination{t: t, e: e, feed: feeder{model: t.model, over: t.parts.over()}}
		return r, x.all(ctx, m, &r)
	}, nil
}

// examination asks an exam, a text at a time.
type examination struct {
	t    *Trainer
	e    *evaluation
	feed feeder
}

func (x *examination) all(ctx context.Context, m Measure, r *EvalReport) error {
	var base objective.Sums
	for _, ids := range m.Exam.Base {
		s, err := x.score(ctx, ids, 1)
		if err != nil {
			return fmt.Errorf("base text: %w", err)
		}
		base.Add(s)
	}
	r.BaseLoss = evalReport(0, base).Loss
	for _, task := range m.Exam.Tasks {
		v, err := x.task(ctx, task)
		if err != nil {
			return fmt.Errorf("%s: %w", task.Name, err)
		}
		r.Tasks = append(r.Tasks, v)
	}
	for _, s := range m.Exam.Samples {
		ids, err := x.say(ctx, s.IDs)
		if err != nil {
			return fmt.Errorf("sample: %w", err)
		}
		r.Samples = append(r.Samples, SampleText{Prompt: s.Prompt, Text: m.Text(ids)})
	}
	return nil
}

// score adds up what the model gives the tokens from on.
func (x *examination) score(ctx context.Context, ids []int32, from int) (objective.Sums, error) {
	labels := slices.Clone(ids)
	for i := range from {
		labels[i] = objective.Ignore
	}
	x.feed.clear()
	x.feed.rows = single{ids, labels}
	if err := x.feed.add(ctx, 0, 0); err != nil {
		return objective.Sums{}, err
	}
	return x.t.measure(ctx, x.e, x.feed)
}

// task asks every question of a file. Without choices the answer counts when each of its tokens is the one that the
// model, left alone, would have said there: greedy generation says the answer.
func (x *examination) task(ctx context.Context, task exam.Task) (TaskReport, error) {
	plain, normed := 0, 0
	for _, q := range task.Questions {
		logp, perByte := make([]float64, len(q.Options)), make([]float64, len(q.Options))
		said := false
		for i, o := range q.Options {
			s, err := x.score(ctx, o.IDs, o.From)
			if err != nil {
				return TaskReport{}, err
			}
			logp[i], perByte[i] = -s.Loss, -s.Loss/float64(max(o.Bytes, 1))
			said = s.Correct == s.Tokens
		}
		if task.Choice {
			plain += one(best(logp) == q.Answer)
			normed += one(best(perByte) == q.Answer)
		} else {
			plain += one(said)
		}
	}
	n := float64(max(len(task.Questions), 1))
	return TaskReport{task.Name, len(task.Questions), task.Choice, float64(plain) / n, float64(normed) / n}, nil
}

// best is the first of the largest; NaN never is.
func best(v []float64) (at int) {
	top := math.Inf(-1)
	for i, x := range v {
		if x > top {
			at, top = i, x
		}
	}
	return at
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// say continues a prompt with the most likely tokens.
func (x *examination) say(ctx context.Context, prompt []int32) (out []int32, err error) {
	over := x.t.parts.over()
	for range sampleTokens {
		q := model.Sequence{IDs: append(slices.Clone(prompt), out...)}
		if x.t.model.CheckOver(over, q) != nil { // the model's limit
			return out, nil
		}
		id, err := x.next(ctx, q)
		if err != nil {
			return out, err
		}
		if slices.Contains(x.t.model.Config.EOS, int(id)) {
			return out, nil
		}
		out = append(out, id)
	}
	return out, nil
}

func (x *examination) next(ctx context.Context, q model.Sequence) (int32, error) {
	if err := x.t.lock(); err != nil {
		return 0, err
	}
	defer x.t.mu.Unlock()
	if x.e.lost != nil {
		return 0, x.e.lost
	}
	defer x.t.show(x.e)()
	id, err := x.e.on.Best(ctx, x.e.Still, q)
	return id, x.t.measured(err)
}

// single is one position.
type single struct{ ids, labels []int32 }

func (s single) Rows() int { return 1 }
func (s single) Row(context.Context, int) (ids, labels []int32, err error) {
	return s.ids, s.labels, nil
}
