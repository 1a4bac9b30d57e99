package trainer

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/gather"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// beginWholeEval takes hold of the weights of now on a member that computes a part. It measures the whole model all the
// same: on a stage of its own, to which units come one after the other, what learns from host memory and the rest from
// the model's files. On the device that takes two units and what an adapter has.
func (t *Trainer) beginWholeEval() (*evaluation, error) {
	w := t.whole.w
	t.whole.lent = true
	learns := make(map[*autograd.Param]bool, len(t.trained))
	for _, p := range t.trained {
		learns[p] = true
	}
	read := func(p *autograd.Param, dst []float32) error {
		if !learns[p] {
			return t.readRounded(p, dst)
		}
		copy(dst, w[p.Off:][:p.Len()])
		t.rounded(p, dst)
		return nil
	}
	var a stage.Adapter
	if t.adapter != nil {
		a = t.adapter
	}
	s, err := stage.NewStill(computed(t.spec), t.dev, t.model, a, read, gather.NewFiles(t.model.Params, gather.InOne(read)))
	if err != nil {
		t.whole.lent = false
		return nil, t.measured(err)
	}
	t.eval = &evaluation{Still: s.Still(), on: s, step: t.step}
	return t.eval, nil
}

// measured explains an error of an evaluation of the whole model by a member that computes a part.
func (t *Trainer) measured(err error) error {
	if err == nil || t.whole == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("measure on a member that computes a part, which takes all of the model's files: %w", err)
}
