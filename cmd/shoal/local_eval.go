package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/prepare"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/data"
)

// findMeasure opens what evaluations look at.
func (l *local) findMeasure(ctx context.Context, store shard.Getter, in *prepare.Inputs) error {
	l.measure.Exam = in.Exam
	if !in.Exam.Empty() {
		tok, err := in.Model.Tokenizer()
		if err != nil {
			return err
		}
		l.measure.Text = tok.Decode
	}
	if in.Built.Stats.Held == 0 {
		return nil
	}
	held, err := data.Open(ctx, store, in.Built.Val)
	if err == nil {
		l.measure.Held = held
	}
	return err
}

// Next implements trainer.Source.
func (l *local) Next(ctx context.Context) (trainer.Work, error) {
	if l.enough {
		return trainer.Work{}, io.EOF
	}
	if l.left == nil {
		l.left = l.trainer.Local()
	}
	return l.left.Next(ctx)
}

// look measures when it is time, adds a line to DIR/eval.jsonl, and remembers the best.
func (l *local) look(ctx context.Context, p *progress, m *metricsFile, at trainer.StepReport, dir string, v *trained) error {
	end := uint64(0)
	if at.Progress() == l.trainer.Steps() {
		end = at.Step
	}
	if !l.measure.Due(l.spec, at.Step, end) {
		return nil
	}
	r, err := l.trainer.Measure(ctx, l.measure)
	if err != nil {
		return fmt.Errorf("evaluate: %w", err)
	}
	v.Eval = &r
	p.note("%s", evalLine(&r))
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := appendLine(filepath.Join(dir, api.EvalFile), line); err != nil {
		return err
	}
	if err := l.follow(p, r); err != nil {
		return err
	}
	return m.eval(r)
}

// follow keeps the best state and ends the run when no better one comes.
func (l *local) follow(p *progress, r trainer.EvalReport) (err error) {
	if l.measure.Held == nil {
		return nil
	}
	better, enough := l.watch.Take(r, l.spec.Patience)
	if better && l.spec.KeepBest {
		l.best, err = l.trainer.Snapshot()
	}
	if enough && r.Step < l.trainer.Steps() {
		l.enough = true
		p.note("no better held-out loss in %s: this is the end; the best was %.4f at step %d", plural(l.watch.Worse, "measurement"), l.watch.Loss, l.watch.Step)
	}
	return err
}

// takeBest makes the best state the result.
func (l *local) takeBest(p *progress) error {
	if l.best.W == nil || l.watch.Step == l.trainer.Step() {
		return nil
	}
	p.note("the result is that of step %d, with a held-out loss of %.4f", l.watch.Step, l.watch.Loss)
	return l.trainer.Restore(l.best)
}
