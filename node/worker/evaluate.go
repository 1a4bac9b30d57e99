package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/node/prepare"
	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/tokenizer"
)

// The submitter alone measures: it is the one who wants to know, and all members hold the same weights. What it
// concludes is its own word: which weights are best decides what it exports, and that there will be no better ones it
// tells everybody by a signed order, which ends the job through the log as a cancelation does.

// watch follows the measurements over restarts.
type watch struct {
	mu    sync.Mutex // guards state
	state trainer.Watch
}

// keyWatch is where the job's area has the watch.
const keyWatch = "watch"

// findMeasure opens what evaluations look at.
func (j *Job) findMeasure(ctx context.Context, m *materials) error {
	j.measure.Held = m.held
	if !j.task.Terms.Exam.Defined() {
		return j.loadWatch()
	}
	c, err := model.ReadConfig(m.model)
	if err != nil {
		return err
	}
	if j.measure.Exam, err = prepare.LoadExam(ctx, j.Store, j.task.Terms.Exam, c.Vocab, c.MaxPos-j.task.Spec.Before()); err != nil {
		return fmt.Errorf("what evaluations ask: %w", err)
	}
	tok, err := tokenizer.Load(model.FS(m.model))
	if err != nil {
		return err
	}
	j.measure.Text = tok.Decode
	return j.loadWatch()
}

func (j *Job) loadWatch() error {
	b, err := j.area.Get([]byte(keyWatch))
	if errors.Is(err, shard.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, &j.watch.state)
	}
	return err
}

// evaluate measures the weights of step, if that is due here, while training goes on.
func (j *Job) evaluate(at trainer.StepReport) {
	e, step, end := j.task.Spec.Eval, at.Step, uint64(0)
	if j.finished(at) {
		end = step
	}
	if !j.measure.Due(e, step, end) {
		return
	}
	missed := func(err error) { j.note(fmt.Sprintf("step %d is not measured: %v", step, err)) }
	finish, err := j.trainer.StartMeasure(j.ctx, j.measure)
	if err != nil {
		missed(err)
		return
	}
	var weights snapshot // before the trainer goes on
	if e.KeepBest && j.measure.Held != nil {
		if weights, err = j.state.copy(); err != nil {
			missed(err)
		}
	}
	j.work.Go(func() {
		r, err := finish(j.ctx)
		if err != nil {
			missed(err)
			return
		}
		j.report(task.Evaluated{EvalReport: r})
		if j.measure.Held == nil {
			return
		}
		if err := j.follow(r, weights); err != nil {
			j.note(fmt.Sprintf("the weights of step %d are not kept: %v", step, err))
		}
	})
}

// follow keeps the best weights, and ends the job when no better ones come.
func (j *Job) follow(r trainer.EvalReport, weights snapshot) error {
	j.watch.mu.Lock()
	defer j.watch.mu.Unlock()
	e, w := j.task.Spec.Eval, j.watch.state
	if r.Step == 0 && w.Taken > 0 {
		return nil // a restart begins with the weights of before, which were measured
	}
	better, enough := w.Take(r, e.Patience)
	if better && e.KeepBest && weights.State.W != nil {
		if err := j.keepBest(weights, r.Loss); err != nil {
			return err
		}
	}
	j.watch.state = w
	b, err := json.Marshal(w)
	if err == nil {
		err = j.area.Set([]byte(keyWatch), b)
	}
	if enough && r.Step < j.trainer.Steps() {
		j.post(coord.CancelJob{Enough: true, Why: fmt.Sprintf("no better held-out loss in %d measurements; the best was %.4f at step %d", w.Worse, w.Loss, w.Step)})
	}
	return err
}

// keepBest stores weights as the result, and says so.
func (j *Job) keepBest(weights snapshot, loss float64) error {
	c, err := saveSnapshot(j.ctx, j.Store, j.task.ID, weights)
	if err != nil {
		return err
	}
	if err := j.pinBest(weights.State.Step, c); err != nil {
		return err
	}
	return j.sayBest(weights.State.Step, loss, c)
}
