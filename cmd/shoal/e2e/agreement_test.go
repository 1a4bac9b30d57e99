package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// round is one line of `job rounds --json`.
type round struct {
	Round     uint64 `json:"round"`
	Attempt   uint32 `json:"attempt"`
	Positions []struct {
		Peer string `json:"peer"`
		Lo   uint64 `json:"lo"`
		Hi   uint64 `json:"hi"`
	} `json:"positions"`
	State string `json:"state_hash"` // of weights and moments after the step
}

func rounds(d *daemon, job string) ([]round, error) {
	out, err := d.output(20*time.Second, "job", "rounds", job, "--json")
	if err != nil {
		return nil, err
	}
	var rs []round
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var r round
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, fmt.Errorf("job rounds printed %q: %w", line, err)
		}
		rs = append(rs, r)
	}
	return rs, nil
}

// lastJob is the name or CID of the newest job.
func lastJob(t *testing.T, d *daemon) string {
	t.Helper()
	out, err := d.output(10*time.Second, "job", "ls", "--json")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var j struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &j); err != nil || j.ID == "" {
		t.Fatalf("job ls --json printed %q: %v", out, err)
	}
	return j.ID
}

// checkAgreement compares the state hashes that nodes recorded for the last round.
func checkAgreement(t *testing.T, job string, ds ...*daemon) {
	t.Helper()
	eventually(t, 20*time.Second, "all nodes end with the same bits", func() error {
		var want round
		for i, d := range ds {
			rs, err := rounds(d, job)
			if err != nil {
				return err
			}
			last := rs[len(rs)-1]
			if last.State == "" {
				return errors.New("no state hash yet")
			}
			if i == 0 {
				want = last
			} else if last.Round != want.Round || last.State != want.State {
				return fmt.Errorf("node %d: round %d hash %s, node 0: round %d hash %s", i, last.Round, last.State, want.Round, want.State)
			}
		}
		return nil
	})
}

// checkOnce proves from the log that each stream position of the run counted exactly once, in its own step.
func checkOnce(t *testing.T, d *daemon, job string, steps, batch uint64) {
	t.Helper()
	rs, err := rounds(d, job)
	if err != nil {
		t.Fatal(err)
	}
	counted := map[uint64]int{}
	for _, r := range rs {
		for _, p := range r.Positions {
			for s := p.Lo; s < p.Hi; s++ {
				counted[s]++
				if s/batch+1 != r.Round {
					t.Errorf("position %d counted in round %d", s, r.Round)
				}
			}
		}
	}
	for s := range steps * batch {
		if counted[s] != 1 {
			t.Errorf("position %d counted %d times", s, counted[s])
		}
	}
}
