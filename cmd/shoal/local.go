package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/seed-7b27c88a/shoal/node"
	"github.com/seed-7b27c88a/shoal/node/prepare"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/scratch"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/data"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// trained is the answer of train --local.
type trained struct {
	Dir   string              `json:"dir"`
	Steps uint64              `json:"steps"`
	Loss  float64             `json:"loss"` // of the last step
	Eval  *trainer.EvalReport `json:"eval,omitempty"`
}

// trainLocal trains in this process and writes the same files as a swarm does.
func (a *app) trainLocal(ctx context.Context, spec job.Spec, f trainFlags) error {
	dir := f.dir(spec)
	v := trained{Dir: dir}
	err := a.withSources(func(src *prepare.Sources) (err error) {
		v, err = a.runLocal(ctx, src, spec, f.device, dir)
		return err
	})
	if err != nil {
		return err
	}
	return a.answer(v, func(w io.Writer) {
		fmt.Fprintln(w, dir)
	})
}

func (a *app) runLocal(ctx context.Context, src *prepare.Sources, spec job.Spec, device, dir string) (v trained, err error) {
	l, err := a.loadLocal(ctx, src, spec, device)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	m, err := newMetrics(dir, spec.Name, spec.Report)
	if err != nil {
		return v, err
	}
	if err := m.begin(); err != nil {
		return v, err
	}
	v = trained{Dir: dir, Steps: l.trainer.Steps()}
	p := a.progress(v.Steps)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	look := func(at trainer.StepReport) error { return l.look(ctx, p, m, at, dir, &v) }
	if err := look(trainer.StepReport{}); err != nil {
		return v, err
	}
	err = l.trainer.Run(ctx, l, &trainer.Solo{}, func(r trainer.StepReport) {
		v.Loss, v.Steps = r.Loss, r.Progress()
		p.step(r)
		if err := errors.Join(m.add(r), look(r)); err != nil {
			stop(err) // a full disk, most likely: the steps to come would be lost
		}
	})
	p.end()
	if cause := context.Cause(ctx); cause != nil {
		return v, cause
	}
	if err != nil {
		return v, err
	}
	if err := m.wasted(); err != nil {
		return v, err
	}
	if l.best.W == nil { // else the result is from before
		if err := m.diverged(); err != nil {
			return v, err
		}
	}
	if err := l.takeBest(p); err != nil {
		return v, err
	}
	return v, l.trainer.Export(dir, "")
}

// local is a job that trains in this process. As a Source it is what is left of it, until enough.
type local struct {
	trainer *trainer.Trainer
	rows    *data.Reader
	measure trainer.Measure
	spec    job.Eval
	close   func() error

	left   *trainer.LocalSource
	watch  trainer.Watch
	enough bool          // the held-out loss does not get better
	best   trainer.State // of keep_best
}

func (a *app) loadLocal(ctx context.Context, src *prepare.Sources, spec job.Spec, device string) (*local, error) {
	store := shard.NewMem()
	p := a.progress(0)
	in, err := src.Inputs(ctx, &spec, store, p.long)
	p.end()
	if err != nil {
		return nil, err
	}
	a.sayRows(in.Built.Stats)
	rows, err := data.Open(ctx, store, in.Built.Train)
	if err != nil {
		return nil, err
	}
	l := &local{rows: rows, spec: spec.Eval}
	if err := l.findMeasure(ctx, store, in); err != nil {
		return nil, err
	}
	dev, err := node.OpenDevice(device)
	if err != nil {
		return nil, err
	}
	room, err := a.scratch(&spec)
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	cfg := trainer.Config{Spec: &spec, Model: in.Model.Files, Rows: rows, Device: dev, Scratch: room}
	if in.Adapter != nil {
		cfg.Adapter = in.Adapter.Files
	}
	if l.trainer, err = trainer.New(cfg); err != nil {
		return nil, errors.Join(err, dev.Close(), room.Close())
	}
	l.close = func() error { return errors.Join(l.trainer.Close(), dev.Close(), room.Close()) }
	return l, nil
}

// scratch is where vectors lie that need not be in memory; nil: the job has none.
func (a *app) scratch(spec *job.Spec) (*scratch.Dir, error) {
	if spec.Parallel.Zero != "3" {
		return nil, nil
	}
	home, err := a.home()
	if err != nil {
		return nil, err
	}
	return scratch.New(filepath.Join(home, "scratch"))
}

// sayRows tells what became of the rows: first those trained on.
func (a *app) sayRows(s data.Stats) {
	rows := plural(s.Rows, "row")
	if s.Packed > 0 {
		rows = fmt.Sprintf("%s packed into %s", plural(s.Packed, "row"), plural(s.Rows, "position"))
	}
	a.say("%s, %s tokens, %s of them targets%s", rows, count(float64(s.Tokens-s.HeldTokens)), count(float64(s.Targets-s.HeldTargets)), heldOut(s))
	if s.Truncated > 0 {
		a.say("%s cut, %s dropped: raise sequence_len if it is below the model's context, or split the rows", plural(s.Truncated, "row"), plural(int(s.CutTokens), "token"))
	}
	if s.NoTarget > 0 {
		a.say("%s with nothing to learn: all tokens are masked or cut", plural(s.NoTarget, "row"))
	}
	for i, bad := range s.FirstBad {
		if i == 0 {
			a.say("%s skipped:", plural(s.Skipped, "malformed row"))
		}
		a.say("  %s", bad)
	}
}

func heldOut(s data.Stats) string {
	if s.Held == 0 {
		return ""
	}
	return fmt.Sprintf("; %s with %s tokens held out", plural(s.Held, "row"), count(float64(s.HeldTokens)))
}
