package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// checkpoint is a line of `job checkpoints --json`.
type checkpoint struct {
	Step    uint64   `json:"step"`
	Loss    float64  `json:"loss"`
	Settled bool     `json:"settled"`
	Bytes   int64    `json:"bytes"`
	Holders []string `json:"holders"`
}

func checkpoints(t *testing.T, d *daemon, job string) (cs []checkpoint) {
	t.Helper()
	out, err := d.output(10*time.Second, "--json", "job", "checkpoints", job)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines(out) {
		var c checkpoint
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("job checkpoints printed %q: %v", line, err)
		}
		cs = append(cs, c)
	}
	return cs
}

// TestRollbackAndResume sends a running job back to an older checkpoint, cancels it, lets it go on, and exports its result
// on a node that keeps no checkpoint.
func TestRollbackAndResume(t *testing.T) {
	dir := refDir(t)
	ref, rows := loadReference(t, dir), writeRows(t, dir)
	a := newDaemon(t)
	b := newDaemon(t, "--bootstrap", a.addr())
	c := newDaemon(t, "--bootstrap", a.addr())
	job := submit(t, a, writeSpec(t, dir, true, rows, "swarm: {min_peers: 3}\ncheckpoint: {every_steps: 5}\n"))

	waitStep(t, a, job, 13)
	if _, err := b.output(10*time.Second, "job", "rollback", job, "--step", "10"); err == nil || !strings.Contains(err.Error(), "alone") {
		t.Errorf("rollback by another node: %v", err)
	}
	back := rollBack(t, a, job)
	if back.Step == 0 || back.Step%5 != 0 || !back.Settled || back.Bytes == 0 || back.Loss == 0 || len(back.Holders) != 2 {
		t.Errorf("checkpoint %+v", back)
	}
	waitStep(t, a, job, 17)
	if _, err := a.output(10*time.Second, "job", "cancel", job); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*daemon{a, b, c} {
		waitState(t, d, job, "cancelled")
	}
	if _, err := a.output(10*time.Second, "job", "resume", job); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*daemon{a, b, c} {
		waitState(t, d, job, "done")
	}

	logs, err := a.output(10*time.Second, "job", "logs", job)
	if err != nil || !strings.Contains(logs, fmt.Sprintf("back to step %d\n", back.Step)) || !strings.Contains(logs, "by order the job goes on") {
		t.Errorf("job logs: %v\n%s", err, logs)
	}
	checkCurve(t, export(t, a, job), ref.LoRA, curveAfterFaults)
	checkOnce(t, job, 50, 4, a)
	for _, d := range []*daemon{b, c} { // one of them keeps no checkpoint
		if files, err := filepath.Glob(filepath.Join(export(t, d, job), "adapter_model.safetensors")); err != nil || len(files) != 1 {
			t.Errorf("exported %v, %v", files, err)
		}
	}
}

// rollBack sends the job back to its newest checkpoint. The job trains on meanwhile and drops old ones, perhaps this one.
func rollBack(t *testing.T, d *daemon, job string) (back checkpoint) {
	t.Helper()
	eventually(t, time.Minute, "the job is sent back", func() error {
		cs := checkpoints(t, d, job)
		back = cs[len(cs)-1]
		_, err := d.output(10*time.Second, "job", "rollback", job, "--step", fmt.Sprint(back.Step))
		return err
	})
	return back
}

func waitState(t *testing.T, d *daemon, job, want string) {
	t.Helper()
	eventually(t, time.Minute, "the job is "+want, func() error {
		out, err := d.output(10*time.Second, "--json", "job", "show", job)
		if err != nil {
			return err
		}
		var j struct {
			State string `json:"state"`
			Step  uint64 `json:"step"`
		}
		if err := json.Unmarshal([]byte(out), &j); err != nil || j.State != want {
			return fmt.Errorf("it is %q at step %d, %v", j.State, j.Step, err)
		}
		return nil
	})
}
