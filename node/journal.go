package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// journal is what happened in one job: numbered events for followers, and beside them the present value of each step
// and round. Everything is in the node's tables before anybody hears of it. Safe for concurrent use.
type journal struct {
	t      *table
	prefix string // of its keys

	mu      sync.Mutex // guards the rest
	seq     uint64     // of the newest event
	last    trainer.StepReport
	over    bool
	changed chan struct{} // closed at the next event, then replaced
}

func openJournal(t *table, job string) (*journal, error) {
	j := &journal{t: t, prefix: "job/" + job + "/", changed: make(chan struct{})}
	var e api.Event
	if _, err := t.last(j.prefix+"event/", &e); err != nil {
		return nil, err
	}
	j.seq = e.Seq
	_, err := t.last(j.prefix+"step/", &j.last)
	return j, err
}

func (j *journal) key(kind string, n uint64) string {
	return fmt.Sprintf("%s%s/%016x", j.prefix, kind, n)
}

// add appends an event. The caller holds mu.
func (j *journal) add(e api.Event, more ...change) error {
	e.Seq, e.Time = j.seq+1, time.Now()
	if err := j.t.write(append(more, put(j.key("event", e.Seq), e))...); err != nil {
		return err
	}
	j.seq = e.Seq
	j.wake()
	return nil
}

// wake lets followers look again. The caller holds mu.
func (j *journal) wake() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// step records a committed step. A report that is there already, as after a restart, is no event.
func (j *journal) step(r trainer.StepReport) error {
	r.Loss, r.GradNorm = number(r.Loss), number(r.GradNorm)
	j.mu.Lock()
	defer j.mu.Unlock()
	if r.Step <= j.last.Step {
		var old trainer.StepReport
		if ok, err := j.t.get(j.key("step", r.Step), &old); err != nil || ok && same(old, r) {
			return err
		}
	}
	if err := j.add(api.Event{Kind: api.EventStep, Step: &r}, put(j.key("step", r.Step), r)); err != nil {
		return err
	}
	if r.Step >= j.last.Step {
		j.last = r
	}
	return nil
}

// same tells that two reports speak of the same committed step; clocks and the view of the peers may differ.
func same(a, b trainer.StepReport) bool {
	return a.Step == b.Step && a.Loss == b.Loss && a.Tokens == b.Tokens
}

// number makes v one that JSON can carry: a loss that is not finite reads as the largest number there is.
func number(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return math.MaxFloat64
	}
	return v
}

// back drops the steps past step.
func (j *journal) back(step uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if step >= j.last.Step {
		return nil
	}
	steps := dropRange(j.key("step", step+1), after(j.prefix+"step/"))
	rounds := dropRange(j.key("round", step+1), after(j.prefix+"round/"))
	evals := dropRange(j.key("eval", step+1), after(j.prefix+"eval/"))
	if err := j.add(api.Event{Kind: api.EventBack, To: step}, steps, rounds, evals); err != nil {
		return err
	}
	j.last = trainer.StepReport{}
	_, err := j.t.last(j.prefix+"step/", &j.last)
	return err
}

// eval records a measurement on the held-out rows.
func (j *journal) eval(r trainer.EvalReport) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.add(api.Event{Kind: api.EventEval, Eval: &r}, put(j.key("eval", r.Step), r))
}

func (j *journal) note(text string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.add(api.Event{Kind: api.EventNote, Text: text})
}

// state records a change of the job's state; a final one ends the event stream of followers.
func (j *journal) state(state, why string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.over = api.Final(state)
	err := j.add(api.Event{Kind: api.EventState, State: state, Text: why})
	if err != nil {
		j.wake() // on a full disk too, followers of a job that is over come to their end
	}
	return err
}

func (j *journal) round(r task.RoundReport) error {
	return j.t.write(put(j.key("round", r.Round), r))
}

func (j *journal) rounds() ([]task.RoundReport, error) {
	return scan[task.RoundReport](j.t, j.prefix+"round/", "", math.MaxInt)
}

func (j *journal) metrics(since uint64) ([]trainer.StepReport, error) {
	return scan[trainer.StepReport](j.t, j.prefix+"step/", j.key("step", since+1), math.MaxInt)
}

// report is what is known of a step.
func (j *journal) report(step uint64) (r trainer.StepReport, ok bool, err error) {
	ok, err = j.t.get(j.key("step", step), &r)
	return r, ok, err
}

// writeMetrics writes metrics.jsonl, a line per committed step, and eval.jsonl if anything was held out.
func (j *journal) writeMetrics(dir string) error {
	steps, err := j.metrics(0)
	if err != nil {
		return err
	}
	evals, err := scan[trainer.EvalReport](j.t, j.prefix+"eval/", "", math.MaxInt)
	if err != nil {
		return err
	}
	if err := writeLines(filepath.Join(dir, api.MetricsFile), steps); err != nil || len(evals) == 0 {
		return err
	}
	return writeLines(filepath.Join(dir, api.EvalFile), evals)
}

func writeLines[T any](path string, lines []T) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, v := range lines {
		if err := enc.Encode(v); err != nil {
			return err
		}
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// now returns the newest step and the number of events.
func (j *journal) now() (trainer.StepReport, uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last, j.seq
}

// follow calls fn for every event past after, in order, until the job is over, fn fails or ctx ends.
func (j *journal) follow(ctx context.Context, after uint64, fn func(api.Event) error) error {
	for {
		j.mu.Lock()
		over, changed := j.over, j.changed
		j.mu.Unlock()
		events, err := scan[api.Event](j.t, j.prefix+"event/", j.key("event", after+1), 256)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := fn(e); err != nil {
				return err
			}
			after = e.Seq
		}
		if len(events) > 0 {
			continue
		}
		if over {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
