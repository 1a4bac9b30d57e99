package worker

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/node/line"
	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/pipe"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// flow is this node's part in a job's pipeline: the line that passes come over, and the part of the model that the trainer
// holds. It is the trainer's Line. Begin, Lost and End belong to the coordination's loop and do not wait.
type flow struct {
	staging
	*line.Stage
	job *Job

	mu     sync.Mutex // guards the rest
	want   model.Part // that the plan in force gives this member
	moving bool       // somebody sees to it that the trainer holds it
}

// openFlow joins the job's pipeline, where it has one.
func (j *Job) openFlow(m *materials) error {
	if !j.task.Spec.Parallel.Staged() {
		return nil
	}
	if j.Pipes == nil || j.Vectors == nil {
		return errors.New("this node was made without a way to hand activations over")
	}
	codec, err := exact.Parse(j.task.Spec.Wire.Activations)
	if err != nil {
		return err
	}
	f := &flow{job: j}
	if f.staging, err = j.newStaging(m); err != nil {
		return err
	}
	f.Stage, err = line.Join(j.Pipes, j.task.ID, j.Host.ID(), codec, line.Events{
		Finished: func(p line.Finished) { j.post(coord.FlowDone{Key: p.Key, Micro: p.Micro, Took: p.Took}) },
		Unreachable: func(k pipe.Key, id record.PeerID, err error) {
			j.log.Debug("activations did not get through", "to", id, "err", err)
			go j.post(coord.FlowLost{Key: k, ID: id}) // it may be the loop that sends
		},
	})
	if err == nil {
		j.flow = f
	}
	return err
}

func (f *flow) close() {
	if f != nil {
		f.Close()
	}
}

// startFlow performs what a plan says about the pipeline.
func (j *Job) startFlow(s *coord.Flow) {
	f := j.flow
	switch {
	case f == nil:
		return
	case s == nil:
		f.End()
		return
	case s.Begin:
		if err := f.Begin(s.Pipe, s.Micros); err != nil {
			j.fail(err.Error())
			return
		}
		f.move(model.Part{Lo: s.Part[0], Hi: s.Part[1]})
	}
	for _, id := range s.Lost {
		f.Lost(id)
	}
}

// Next implements trainer.Line. Work that is not the pipe's has no passes.
func (f *flow) Next(ctx context.Context, w trainer.Work) (trainer.Pass, error) {
	if !f.job.rounds.inPipe(w) {
		return trainer.Pass{}, io.EOF
	}
	return f.Stage.Next(ctx, w)
}

// move sees to it that the trainer holds a part: what is missing of the model is fetched, and the part loaded. Work of the
// pipe waits for it.
func (f *flow) move(p model.Part) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.want = p; f.moving {
		return
	}
	f.moving = true
	f.job.work.Go(func() {
		if err := f.hold(); err != nil && f.job.ctx.Err() == nil {
			f.job.post(coord.Failed{Why: "a part of the model: " + err.Error()})
		}
	})
}

// hold makes the trainer hold the wanted part.
func (f *flow) hold() error {
	ctx, cancel := context.WithCancel(f.job.ctx)
	defer cancel()
	go func() {
		select {
		case <-f.job.rounds.over: // nobody needs it any more
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		f.mu.Lock()
		want, t := f.want, f.job.trainer
		if t.Part() == want || ctx.Err() != nil {
			f.moving = false
			f.job.rounds.holds([2]int{want.Lo, want.Hi})
			f.mu.Unlock()
			return nil
		}
		f.mu.Unlock()
		err := f.job.obtainPart(ctx, want, false)
		if err == nil {
			err = t.Repart(ctx, want)
		}
		if err != nil && ctx.Err() == nil {
			f.mu.Lock()
			f.moving = false
			f.mu.Unlock()
			return err
		}
	}
}

// stages is what rounds knows of a pipeline.
type stages struct {
	held   [2]int             // units that the trainer holds
	flows  bool               // the trainer has work of the pipe
	sealed collective.PieceID // that is handed over when the pipe ends; zero: none
}

// pipe notes what a plan says about the pipeline. Called with mu held.
func (r *rounds) pipe(s *coord.Flow) {
	if s == nil || s.Begin {
		r.stages.sealed = collective.PieceID{}
		// no pipe of an earlier attempt is entered any more
		r.queue = slices.DeleteFunc(r.queue, func(w queued) bool { return w.part != nil })
	}
}

// seal says that the piece that the pipe ends with counts.
func (r *rounds) seal(id collective.PieceID) { r.update(func() { r.stages.sealed = id }) }

// holds says which units the trainer holds.
func (r *rounds) holds(part [2]int) { r.update(func() { r.stages.held = part }) }

// inPipe reports whether work that the trainer took is that of the pipe.
func (r *rounds) inPipe(w trainer.Work) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stages.flows && r.works.Round == w.Round && r.works.Attempt == w.Attempt
}

// name is the piece that the trainer hands in; false: it adds nothing. Called with mu held.
func (r *rounds) name(p trainer.Piece) (id collective.PieceID, counts bool) {
	id = collective.PieceID{Round: p.Round, Attempt: p.Attempt, Member: r.self.ID, Boot: r.self.Boot}
	if r.stages.flows {
		r.stages.flows = false
		return id, r.stages.sealed == id
	}
	return id, len(p.Positions) > 0
}
