package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/task"
)

// Checkpoints implements api.Checkpoints.
func (js *jobs) Checkpoints(ctx context.Context, id string) ([]api.Checkpoint, error) {
	e, err := js.find(id)
	if err != nil {
		return nil, err
	}
	return js.checkpoints(ctx, e)
}

// checkpoints are those of a job, with what its journal knows of their steps.
func (js *jobs) checkpoints(ctx context.Context, e *entry) ([]api.Checkpoint, error) {
	list, err := js.runtime.Checkpoints(ctx, e.task)
	if err != nil {
		return nil, err
	}
	now, _ := e.journal.now()
	js.mu.Lock()
	known := now.Step > 0 || e.order.Number > 0
	js.mu.Unlock()
	out := make([]api.Checkpoint, len(list))
	for i, k := range list {
		out[i].Checkpoint = k
		settled := slices.ContainsFunc(list, func(o task.Checkpoint) bool { return o.Settled && o.Step == k.Step })
		out[i].Left = !k.Settled && (settled || known && k.Step > now.Step)
		r, ok, err := e.journal.report(k.Step)
		if err != nil {
			return nil, err
		}
		if ok && !out[i].Left {
			out[i].Loss = r.Loss
		}
		if ok && r.Progress() != k.Step {
			out[i].Step, out[i].Round = r.Progress(), k.Step
		}
	}
	return out, nil
}

// Resume implements api.Checkpoints: a job that ended before its last step goes on from its newest checkpoint.
func (s jobAPI) Resume(ctx context.Context, id string) (api.Job, error) {
	e, err := s.ordering(id)
	if err != nil {
		return api.Job{}, err
	}
	if state, _ := s.stateOf(e); !api.Final(state) {
		return api.Job{}, api.Conflict("job %s is %s; it goes on by itself when its members are there", id, state)
	}
	list, err := s.runtime.Checkpoints(ctx, e.task)
	if err != nil {
		return api.Job{}, err
	}
	step := uint64(0)
	for _, c := range list {
		if c.Here || c.Settled {
			step = max(step, c.Step)
		}
	}
	if err := s.reopen(e, step); err != nil {
		return api.Job{}, err
	}
	return s.ordered(ctx, e)
}

// Rollback implements api.Checkpoints: the job goes on from an earlier checkpoint; 0 is its beginning.
func (s jobAPI) Rollback(ctx context.Context, id string, step uint64) (api.Job, error) {
	e, err := s.ordering(id)
	if err != nil {
		return api.Job{}, err
	}
	if step, err = s.roundOf(ctx, e, step); err != nil {
		return api.Job{}, err
	}
	if _, running := s.stateOf(e); !running {
		err = s.reopen(e, step)
	} else {
		var o task.Order
		if o, err = s.runtime.GoBack(ctx, e.task.ID, step); err == nil {
			err = s.note(e, o)
		}
	}
	if err != nil {
		return api.Job{}, err
	}
	return s.ordered(ctx, e)
}

// ordered tells the swarm of e's new order.
func (s jobAPI) ordered(ctx context.Context, e *entry) (api.Job, error) {
	s.mu.Lock()
	t := e.current()
	s.mu.Unlock()
	s.n.offers.publish(ctx, t)
	return s.Job(ctx, t.ID.String())
}

// ordering finds a job that may be given an order here.
func (js *jobs) ordering(id string) (*entry, error) {
	e, err := js.find(id)
	if err != nil {
		return nil, err
	}
	js.mu.Lock()
	defer js.mu.Unlock()
	switch {
	case !e.task.Mine:
		return nil, api.BadRequest("job %s was submitted by %s, who alone can send it back", id, e.task.Terms.Submitter)
	case e.state == api.Done:
		return nil, api.Conflict("job %s is done; to train on from its result, submit a job with that as base_model or lora_model_dir", id)
	}
	return e, nil
}

// stateOf tells e's state, and whether it runs.
func (js *jobs) stateOf(e *entry) (state string, running bool) {
	js.mu.Lock()
	defer js.mu.Unlock()
	return e.state, e.stop != nil && !api.Final(e.state)
}

// roundOf is what the runtime calls the step of a checkpoint that the job has.
func (js *jobs) roundOf(ctx context.Context, e *entry, step uint64) (uint64, error) {
	list, err := js.checkpoints(ctx, e)
	if err != nil || step == 0 {
		return 0, err
	}
	steps := []uint64{0}
	for _, c := range list {
		if c.Step == step {
			return cmp.Or(c.Round, c.Step), nil
		}
		steps = append(steps, c.Step)
	}
	return 0, api.NotFound("no checkpoint of step %d; there are those of steps %v", step, steps)
}

// reopen gives a job that does not run its next order and runs it.
func (js *jobs) reopen(e *entry, step uint64) error {
	js.mu.Lock()
	defer js.mu.Unlock()
	if err := js.setOrder(e, task.Order{Number: e.order.Number + 1, Step: step}); err != nil {
		return err
	}
	js.revise(e)
	return nil
}

// note keeps an order that a running job has carried out.
func (js *jobs) note(e *entry, o task.Order) error {
	js.mu.Lock()
	defer js.mu.Unlock()
	return js.setOrder(e, o)
}

// current is e's task with its newest order. The caller holds mu.
func (e *entry) current() task.Task {
	t := e.task
	t.Order, t.Ordered = e.order, e.ordered
	return t
}

// setOrder signs and stores e's order. The caller holds mu.
func (js *jobs) setOrder(e *entry, o task.Order) error {
	s, err := js.sign(e.task, o.Number)
	if err != nil {
		return fmt.Errorf("the order: %w", err)
	}
	e.order, e.ordered = o, s
	return js.save(e)
}

// revise lets a job that is over begin again, at once or when its run has returned. The caller holds mu.
func (js *jobs) revise(e *entry) {
	if e.again = e.stop != nil; !e.again {
		js.become(e, api.Waiting, "")
		js.schedule()
	}
}

// heed takes up an order that came with an offer of a job that is in the table. The caller holds mu.
func (js *jobs) heed(e *entry, t task.Task) error {
	if t.Order.Number <= e.order.Number || e.task.Mine {
		return nil
	}
	e.order, e.ordered = t.Order, t.Ordered
	if err := js.save(e); err != nil || !api.Final(e.state) {
		return err
	}
	if err := js.policy.accepts(e.task); err != nil {
		return err
	}
	js.revise(e)
	return nil
}
