package node

import (
	"cmp"
	"context"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// Jobs implements api.Jobs: newest first.
func (js *jobs) Jobs(context.Context) ([]api.Job, error) {
	js.mu.Lock()
	defer js.mu.Unlock()
	out := []api.Job{}
	for _, e := range js.table {
		out = append(out, e.show())
	}
	slices.SortFunc(out, func(a, b api.Job) int { return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// show is e as the API tells it. The caller holds mu.
func (e *entry) show() api.Job {
	last, seq := e.journal.now()
	settled := e.settled
	if r, ok, err := e.journal.report(settled); err == nil && ok {
		settled = r.Progress()
	}
	return api.Job{
		ID: e.task.ID.String(), Name: e.task.Spec.Name, State: e.state, Why: e.why, Mine: e.task.Mine,
		Submitter: string(e.task.Terms.Submitter), Created: e.created, Step: last.Progress(), Loss: last.Loss, Peers: last.Peers,
		Steps: e.task.Spec.Steps(e.task.Terms.Rows), Settled: settled, Model: e.task.Terms.Model.String(),
		State256: e.bits, Events: seq, Spec: e.task.Spec,
	}
}

// find looks a job up by its CID, a unique part of it (six characters or more), or its name (the newest of several).
func (js *jobs) find(id string) (*entry, error) {
	js.mu.Lock()
	defer js.mu.Unlock()
	var named *entry
	var parts []*entry
	part := strings.TrimPrefix(id, "…")
	for _, e := range js.table {
		text := e.task.ID.String()
		switch {
		case text == id:
			return e, nil
		case e.task.Spec.Name == id && (named == nil || e.created.After(named.created)):
			named = e
		case len(part) >= 6 && (strings.HasPrefix(text, part) || strings.HasSuffix(text, part)):
			parts = append(parts, e)
		}
	}
	switch {
	case named != nil:
		return named, nil
	case len(parts) == 1:
		return parts[0], nil
	case len(parts) > 1:
		return nil, api.Conflict("%q fits %d jobs; give more of the id", id, len(parts))
	}
	return nil, api.NotFound("no job %q on this node; \"shoal job ls\" lists them", id)
}

// Job implements api.Jobs.
func (js *jobs) Job(_ context.Context, id string) (api.Job, error) {
	e, err := js.find(id)
	if err != nil {
		return api.Job{}, err
	}
	js.mu.Lock()
	defer js.mu.Unlock()
	return e.show(), nil
}

// Cancel implements api.Jobs.
func (js *jobs) Cancel(ctx context.Context, id string) (api.Job, error) {
	e, err := js.find(id)
	if err != nil {
		return api.Job{}, err
	}
	js.mu.Lock()
	running, over := e.stop != nil, api.Final(e.state)
	switch {
	case !e.task.Mine:
		err = api.BadRequest("job %s was submitted by %s, who alone can cancel it", id, e.task.Terms.Submitter)
	case over:
		err = api.Conflict("job %s is %s already", id, e.state)
	case !running:
		js.become(e, api.Cancelled, "")
	}
	js.mu.Unlock()
	if err == nil && running {
		err = js.runtime.Cancel(ctx, e.task.ID)
	}
	if err != nil {
		return api.Job{}, err
	}
	return js.Job(ctx, id)
}

// Rounds implements api.Jobs.
func (js *jobs) Rounds(_ context.Context, id string) ([]api.Round, error) {
	e, err := js.find(id)
	if err != nil {
		return nil, err
	}
	return e.journal.rounds()
}

// Metrics implements api.Jobs.
func (js *jobs) Metrics(_ context.Context, id string, since uint64) ([]trainer.StepReport, error) {
	e, err := js.find(id)
	if err != nil {
		return nil, err
	}
	return e.journal.metrics(since)
}

// Events implements api.Jobs.
func (js *jobs) Events(ctx context.Context, id string, after uint64, fn func(api.Event) error) error {
	e, err := js.find(id)
	if err != nil {
		return err
	}
	return e.journal.follow(ctx, after, fn)
}

// Result implements api.Jobs.
func (js *jobs) Result(ctx context.Context, id string, r api.ResultRequest, w io.Writer) error {
	e, err := js.find(id)
	if err != nil {
		return err
	}
	if _, err := e.task.Spec.Forms(r.As); err != nil {
		return api.BadRequest("%v", err)
	}
	if err := js.exportable(ctx, e, r.Partial); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(js.tmp, "export-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t := e.task
	if e.base != "" {
		t.Spec.BaseModel = e.base // as the adapter's config should name it here
	}
	if err := js.runtime.Export(ctx, t, r.As, dir); err != nil {
		return err
	}
	if err := e.journal.writeMetrics(dir); err != nil {
		return err
	}
	return writeTar(w, dir)
}

// exportable refuses a job that is not at its end, unless its newest checkpoint will do.
func (js *jobs) exportable(ctx context.Context, e *entry, partial bool) error {
	js.mu.Lock()
	defer js.mu.Unlock()
	if partial || e.state == api.Done {
		if list, err := js.runtime.Checkpoints(ctx, e.task); err != nil || len(list) > 0 {
			return err
		}
		return api.Conflict("the job has no settled checkpoint yet; wait for one")
	}
	v := e.show()
	if api.Final(e.state) {
		return api.Conflict("the job was %s at step %d of %d, so there is no final result; take its newest settled checkpoint with --partial", v.State, v.Step, v.Steps)
	}
	return api.Conflict("the job is at step %d of %d; follow it with \"shoal job logs -f\", or take its newest settled checkpoint with --partial", v.Step, v.Steps)
}
