package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// round is one line of `job rounds --json`.
type round struct {
	Round   uint64 `json:"round"`
	Leader  string `json:"leader"`
	Commit  string `json:"commit"`
	Members []struct {
		Peer      string      `json:"peer"`
		Positions [][2]uint64 `json:"positions"`
		Stage     int         `json:"stage"`
	} `json:"members"`
}

func rounds(d *daemon, job string) ([]round, error) {
	out, err := d.output(20*time.Second, "--json", "job", "rounds", job)
	if err != nil {
		return nil, err
	}
	var rs []round
	for _, line := range lines(out) {
		var r round
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, fmt.Errorf("job rounds printed %q: %w", line, err)
		}
		rs = append(rs, r)
	}
	return rs, nil
}

func lines(s string) []string {
	if s = strings.TrimSpace(s); s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// lastJob is the id of the newest job.
func lastJob(t *testing.T, d *daemon) string {
	t.Helper()
	out, err := d.output(10*time.Second, "--json", "job", "ls")
	if err != nil {
		t.Fatal(err)
	}
	var newest struct {
		ID      string    `json:"id"`
		Created time.Time `json:"created"`
	}
	for _, line := range lines(out) {
		j := newest
		if err := json.Unmarshal([]byte(line), &j); err != nil {
			t.Fatalf("job ls --json printed %q: %v", line, err)
		}
		if newest.ID == "" || j.Created.After(newest.Created) {
			newest = j
		}
	}
	if newest.ID == "" {
		t.Fatal("job ls knows no job")
	}
	return newest.ID
}

// checkAgreement waits until the nodes have done the same last step and compares the hashes of their weights and moments.
func checkAgreement(t *testing.T, job string, steps uint64, ds ...*daemon) {
	t.Helper()
	eventually(t, 20*time.Second, "all nodes end with the same bits", func() error {
		var first string
		for i, d := range ds {
			out, err := d.output(10*time.Second, "--json", "job", "show", job)
			if err != nil {
				return err
			}
			var j struct {
				Step  uint64 `json:"step"`
				State string `json:"state_sha256"`
			}
			if err := json.Unmarshal([]byte(out), &j); err != nil {
				return fmt.Errorf("job show printed %q: %w", out, err)
			}
			if j.Step != steps || j.State == "" {
				return fmt.Errorf("node %d is at step %d with state %q", i, j.Step, j.State)
			}
			if i == 0 {
				first = j.State
			} else if j.State != first {
				return fmt.Errorf("node %d has %s, node 0 %s", i, j.State, first)
			}
		}
		return nil
	})
}

// checkOnce proves from the log that each stream position of the run counted exactly once, in its own step. A node that
// was away may have heard of the rounds since then together, so the nodes' reports are put together; where two have one
// of the same round, it is the same.
func checkOnce(t *testing.T, job string, steps, batch uint64, ds ...*daemon) {
	t.Helper()
	var rs []round
	known := map[uint64]string{}
	for _, d := range ds {
		theirs, err := rounds(d, job)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range theirs {
			if known[r.Round] == "" {
				rs = append(rs, r)
			} else if known[r.Round] != r.Commit {
				t.Errorf("round %d was committed as %s and as %s", r.Round, known[r.Round], r.Commit)
			}
			known[r.Round] = r.Commit
		}
	}
	counted := map[uint64]int{}
	for _, r := range rs {
		for _, m := range r.Members {
			for _, p := range m.Positions {
				for s := p[0]; s < p[1]; s++ {
					counted[s]++
					if s/batch+1 != r.Round {
						t.Errorf("position %d counted in round %d", s, r.Round)
					}
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
