package worker

import (
	"context"
	"encoding/hex"
	"errors"
	"io"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// train runs the trainer until the job is over here. Whenever this member's state has to be replaced it leaves the
// rounds, waits for the new state, and goes on from there.
func (j *Job) train() error {
	for {
		err := j.trainer.Run(j.state.runContext(j.ctx), j.rounds, j.rounds, j.stepped)
		switch {
		case err == nil || errors.Is(err, io.EOF):
			return nil
		case j.ctx.Err() != nil:
			return nil
		case errors.Is(err, context.Canceled):
			continue // interrupted: there is other work, or new state, which the next Run is told of
		case !errors.Is(err, trainer.ErrExcluded):
			return err
		}
		if err := j.restore(); errors.Is(err, io.EOF) || j.ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// stepped runs on the trainer's goroutine after each committed step.
func (j *Job) stepped(r trainer.StepReport) {
	if j.moments != nil {
		j.moments.advanced(r.Step)
	}
	f := j.rounds.stepped()
	hash, err := j.state.advance(r, commitOf(f), j.checkpointDue(r))
	if err != nil {
		j.post(coord.Failed{Why: err.Error()})
		return
	}
	if j.moments != nil && j.checkpointDue(r) {
		if err := j.beginPart(r.Step, commitOf(f)); err != nil {
			j.post(coord.Failed{Why: err.Error()})
			return
		}
	}
	j.reportSteps([]trainer.StepReport{r}, hex.EncodeToString(hash[:]))
	j.evaluate(r)
	j.post(coord.Stepped{Round: r.Step, Commit: commitOf(f), Hash: hash})
}

// restore waits for fetched state and puts it into the trainer, which may go on only if that was the last word.
func (j *Job) restore() error {
	for {
		select {
		case s := <-j.state.fetched:
			if done, err := j.adopt(s); done || err != nil {
				return err
			}
		case <-j.rounds.over: // the job is over: no state is of use any more
			return io.EOF
		case <-j.ctx.Done():
			return j.ctx.Err()
		}
	}
}

func (j *Job) adopt(s fetched) (done bool, err error) {
	if j.moments != nil {
		j.moments.confirm()
	}
	if err := j.trainer.Restore(s.State); err != nil {
		j.post(coord.Unfetched{Round: s.State.Step, Why: err.Error()})
		return false, nil
	}
	hash, err := j.trainer.StateHash()
	if err != nil {
		return false, err
	}
	if j.moments != nil {
		j.moments.from(s.Parts, s.State.Step)
		j.moments.advanced(s.State.Step)
	}
	j.reportSteps(j.state.replace(s.snapshot), hex.EncodeToString(hash[:]))
	j.evaluate(s.last())
	if !j.state.settled(s.fetch, func() { j.rounds.readmit(s.State.Step) }) {
		return false, nil // another fetch is under way
	}
	j.post(coord.Restored{Round: s.State.Step, Commit: s.Commit, Hash: hash})
	return true, nil
}
