package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/report"
)

// metricsFile is DIR/metrics.jsonl: one line per committed step, in step order, each step once, written at once.
// What cannot be appended (a job that went back, a step that arrives late) replaces the file atomically.
// Where the job wants it, a TensorBoard event file beside it has the same steps, and what was measured on the way.
//
// An earlier result in DIR stays until begin, or the first step: a job that never starts costs nobody a result. Then it
// goes as a whole.
type metricsFile struct {
	path   string
	name   string // of the job
	begun  bool
	start  time.Time
	events string // path of the event file; empty: none
	steps  []trainer.StepReport
	evals  []trainer.EvalReport // of the event file
}

func newMetrics(dir, name string, r job.Report) (*metricsFile, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	m := &metricsFile{path: filepath.Join(dir, api.MetricsFile), name: name, start: time.Now()}
	if r.TensorBoard {
		m.events = filepath.Join(dir, report.EventsName(m.start))
	}
	if ours(m.path) {
		return m, nil
	}
	return m, m.rewrite()
}

// begin takes an earlier result away and makes room for this one.
func (m *metricsFile) begin() error {
	if m.begun {
		return nil
	}
	m.begun = true
	dir := filepath.Dir(m.path)
	if err := errors.Join(clearResult(dir, m.name), dropEvents(dir)); err != nil {
		return err
	}
	return m.rewrite()
}

// dropEvents removes the event files of an earlier run: TensorBoard would draw both as one.
func dropEvents(dir string) error {
	old, err := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"+report.EventsSuffix))
	if err != nil { // dir is no pattern that could be matched
		return nil
	}
	for _, path := range old {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// eval adds a measurement to the event file.
func (m *metricsFile) eval(r trainer.EvalReport) error {
	if err := m.begin(); err != nil || m.events == "" {
		return err
	}
	m.evals = append(m.evals, r)
	return appendTo(m.events, report.AppendEvent(nil, m.measured(r)))
}

// measured stands at the time of the step that it measures.
func (m *metricsFile) measured(r trainer.EvalReport) report.Event {
	at := 0.0
	for _, s := range m.steps {
		if s.Step <= r.Step {
			at = s.Time
		}
	}
	return report.Measured(r, m.start, at)
}

// add records a step; one that is there already is replaced.
func (m *metricsFile) add(r trainer.StepReport) error {
	if err := m.begin(); err != nil {
		return err
	}
	i := len(m.steps)
	for i > 0 && m.steps[i-1].Step >= r.Step {
		i--
	}
	if i == len(m.steps) {
		m.steps = append(m.steps, r)
		return m.append(r)
	}
	if m.steps[i].Step == r.Step {
		if m.steps[i] == r {
			return nil
		}
		m.steps[i] = r
	} else {
		m.steps = append(m.steps[:i], append([]trainer.StepReport{r}, m.steps[i:]...)...)
	}
	return m.rewrite()
}

// back removes the steps past step.
func (m *metricsFile) back(step uint64) error {
	i := len(m.steps)
	for i > 0 && m.steps[i-1].Step > step {
		i--
	}
	if i == len(m.steps) {
		return nil
	}
	m.steps = m.steps[:i]
	m.evals = slices.DeleteFunc(m.evals, func(r trainer.EvalReport) bool { return r.Step > step })
	return m.rewrite()
}

// wasted says why nothing was learned, where every step was skipped.
func (m *metricsFile) wasted() error {
	empty := 0
	for _, r := range m.steps {
		if !r.Skipped {
			return nil
		}
		if r.Tokens == 0 {
			empty++
		}
	}
	switch n := len(m.steps); {
	case n == 0:
		return nil
	case empty == n:
		return errors.New("every step was skipped because its rows have no target tokens: nothing was learned; look at them with \"shoal data show\", or raise sequence_len")
	case empty == 0:
		return errors.New("every step was skipped because its loss or gradients were not finite: nothing was learned; check the base model's weights, or lower optimizer.lr")
	default:
		return fmt.Errorf("every step was skipped, %d of %d for lack of target tokens, the others because loss or gradients were not finite: nothing was learned; check rows and base model", empty, n)
	}
}

// divergedAfter is how many steps in a row without finite loss and gradients, up to the end, tell that the weights themselves are
// broken: an unlucky batch is over sooner. A guess.
const divergedAfter = 3

// diverged says that training blew up: loss or gradients were not finite any more when it ended. Such weights are nobody's result.
func (m *metricsFile) diverged() error {
	n := 0
	for _, r := range slices.Backward(m.steps) {
		overflow := r.Loss != 0 && r.LossScale != 0 // of fp16: the scale adapts, the weights are well
		if !r.Skipped || r.Tokens == 0 || overflow {
			break
		}
		n++
	}
	if n < divergedAfter {
		return nil
	}
	last := m.steps[len(m.steps)-n]
	return fmt.Errorf("training diverged: from step %d on loss or gradients were not finite; lower optimizer.lr (it is %g there), warm up longer, or set max_grad_norm", last.Step, last.LR)
}

func (m *metricsFile) append(r trainer.StepReport) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if m.events != "" {
		err = appendTo(m.events, report.AppendEvent(nil, report.Step(r, m.start)))
	}
	return errors.Join(err, appendLine(m.path, line))
}

func appendLine(path string, line []byte) error { return appendTo(path, append(line, '\n')) }

func appendTo(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func (m *metricsFile) rewrite() error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, r := range m.steps {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return errors.Join(m.rewriteEvents(), writeAtomic(m.path, b.Bytes()))
}

func (m *metricsFile) rewriteEvents() error {
	if m.events == "" {
		return nil
	}
	b := report.AppendHeader(nil, m.start)
	for _, r := range m.steps {
		b = report.AppendEvent(b, report.Step(r, m.start))
	}
	for _, r := range m.evals {
		b = report.AppendEvent(b, m.measured(r))
	}
	return writeAtomic(m.events, b)
}

// writeAtomic replaces a file so that readers see the old or the new one.
func writeAtomic(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already when all went well
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
