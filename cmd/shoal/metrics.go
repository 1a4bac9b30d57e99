package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// metricsFile is DIR/metrics.jsonl: one line per committed step, in step order, each step once, written at once.
// What cannot be appended (a job that went back, a step that arrives late) replaces the file atomically.
//
// An earlier result in DIR stays until the first step of the new one is there, so that a job that never starts costs
// nobody a result; then it goes as a whole.
type metricsFile struct {
	path  string
	name  string // of the job
	begun bool
	steps []trainer.StepReport
}

func newMetrics(dir, name string) (*metricsFile, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	m := &metricsFile{path: filepath.Join(dir, api.MetricsFile), name: name}
	if ours(m.path) {
		return m, nil
	}
	return m, m.rewrite()
}

// begin makes room for the first step.
func (m *metricsFile) begin() error {
	if m.begun {
		return nil
	}
	m.begun = true
	if err := clearResult(filepath.Dir(m.path), m.name); err != nil {
		return err
	}
	return m.rewrite()
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

func (m *metricsFile) append(r trainer.StepReport) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return appendLine(m.path, line)
}

func appendLine(path string, line []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
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
	return writeAtomic(m.path, b.Bytes())
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
