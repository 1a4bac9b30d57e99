package nettest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Behind NATs that keep ports, two nodes that know one public node find each other and punch a hole. The time counts from
// the start of the second daemon.
func TestConeNATs(t *testing.T) {
	for _, kind := range []string{"cone", "tcponly"} {
		t.Run(kind, func(t *testing.T) {
			attempts(t, func() error {
				l := newLab(t, 3, "--delay", "20ms", "--nat", "2", "--nat-type", kind)
				boot := l.start(1, "--reachability", "public", "--no-mdns")
				addr := boot.addr()
				a := l.start(2, "--bootstrap", addr, "--no-mdns")
				a.up()
				b := l.start(3, "--bootstrap", addr, "--no-mdns")
				began := time.Now()
				l.connects(20*time.Second, a, b, "direct")
				took := time.Since(began)
				t.Logf("direct after %v", took)
				if took > 3*time.Second && kind == "cone" {
					return fmt.Errorf("direct after %v, the bar is 3 s", took)
				}
				return nil
			})
		})
	}
}

// Behind NATs that give every destination another port there is no direct way: a relay carries the job, and the status says so.
func TestSymmetricNATsTrainThroughRelay(t *testing.T) {
	l := newLab(t, 4, "--delay", "10ms", "--nat", "2", "--nat-type", "symmetric")
	rows, model := jobInputs(t)
	one := l.start(1, "--reachability", "public", "--no-mdns", "--max-jobs", "0")
	addr := one.addr()
	two := l.start(2, "--reachability", "public", "--no-mdns", "--max-jobs", "0", "--bootstrap", addr)
	two.up()
	a := l.start(3, "--bootstrap", addr, "--no-mdns")
	b := l.start(4, "--bootstrap", addr, "--no-mdns")
	t.Logf("relayed after %v", l.connects(20*time.Second, a, b, "relayed"))
	l.eventually(20*time.Second, "the NAT is recognised", func() error {
		s, err := a.status()
		if err == nil && (s.Reachability.NAT != "symmetric" || !strings.Contains(s.Reachability.Verdict, "relay")) {
			err = fmt.Errorf("%+v", s.Reachability)
		}
		return err
	})
	if s, err := a.status(); err != nil || s.Relayed != 1 {
		t.Errorf("status: %+v %v, want one peer through a relay", s, err)
	}
	spec := filepath.Join(t.TempDir(), "job.yaml")
	text := fmt.Sprintf(`version: shoal/v1
name: relayed
base_model: %s
adapter: lora
lora_r: 4
lora_target_linear: true
datasets: [{path: %s, type: tokens}]
sequence_len: 64
micro_batch_size: 2
gradient_accumulation_steps: 2
max_steps: 10
optimizer: {name: adamw, lr: 1e-3}
swarm: {min_peers: 2}
`, model, rows)
	if err := os.WriteFile(spec, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := a.shoal(2*time.Minute, "train", "-f", spec, "-o", out); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(out, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var peers []int
	for line := range strings.Lines(string(data)) {
		var m struct{ Peers int }
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		peers = append(peers, m.Peers)
	}
	if len(peers) != 10 || slices.Min(peers) < 2 {
		t.Errorf("members per step: %v, want ten steps of two", peers)
	}
	if p, err := a.path(b.up().ID); p != "relayed" {
		t.Errorf("path at the end: %q %v", p, err)
	}
}

// jobInputs are rows of tokens and a model, from the reference data.
func jobInputs(t *testing.T) (rows, model string) {
	t.Helper()
	model = filepath.Join(root(t), "../shared/data/models/stories260K")
	if _, err := os.Stat(model); err != nil {
		t.Skipf("reference data is not here (%v)", err)
	}
	rows = filepath.Join(t.TempDir(), "rows.jsonl")
	f, err := os.Create(rows)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := range 32 {
		ids := make([]int, 64)
		for i := range ids {
			ids[i] = 3 + (r*7+i*i)%400
		}
		line, _ := json.Marshal(map[string][]int{"input_ids": ids})
		fmt.Fprintf(f, "%s\n", line)
	}
	return rows, model
}
