package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// round is one line of `job rounds --json`.
type round struct {
	Round   uint64 `json:"round"`
	Members []struct {
		Peer      string      `json:"peer"`
		Positions [][2]uint64 `json:"positions"`
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

// checkAgreement exports the job's result on every node and compares the weights bit for bit.
func checkAgreement(t *testing.T, job string, lora bool, ds ...*daemon) {
	t.Helper()
	name := "model.safetensors"
	if lora {
		name = "adapter_model.safetensors"
	}
	var first []byte
	for i, d := range ds {
		b, err := os.ReadFile(filepath.Join(export(t, d, job), name))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = b
		} else if !bytes.Equal(first, b) {
			t.Errorf("%s of node %d differs from node 0's", name, i)
		}
	}
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
