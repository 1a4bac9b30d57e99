package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// TestPrivateSwarm founds a private swarm, takes two more nodes in with one invite, trains on the three, and puts one of
// them out. A fourth node, which has the addresses but no invite, gets nowhere.
func TestPrivateSwarm(t *testing.T) {
	dir, bin := t.TempDir(), shoalBinary(t)
	if err := tiny.Write(filepath.Join(dir, "model"), tiny.Shape{Type: "llama"}, 1); err != nil {
		t.Fatal(err)
	}
	rows := strings.Repeat(`{"text": "a row of text to learn from"}`+"\n", 8)
	spec := "version: shoal/v1\nname: secret\nbase_model: model\nadapter: lora\ndatasets: [{path: rows.jsonl}]\n" +
		"max_steps: 4\noptimizer: {lr: 0.001}\ngradient_accumulation_steps: 3\nswarm: {min_peers: 3}\n"
	for name, text := range map[string]string{"rows.jsonl": rows, "job.yaml": spec} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	home := t.TempDir()
	if _, err := run(10*time.Second, bin, "--home", home, "swarm", "create", "lab", "--private"); err != nil {
		t.Fatal(err)
	}
	a := newDaemonIn(t, home, "--device", "cpu:generic")
	token, err := a.output(10*time.Second, "swarm", "invite", "--uses", "2", "--expires", "1h")
	if err != nil {
		t.Fatal(err)
	}
	var others []*daemon
	for range 2 {
		home := t.TempDir()
		t.Setenv("SHOAL_INVITE", token)
		if _, err := run(10*time.Second, bin, "--home", home, "swarm", "join"); err != nil {
			t.Fatal(err)
		}
		others = append(others, newDaemonIn(t, home, "--device", "cpu:generic"))
	}
	if _, err := run(10*time.Second, bin, "--home", t.TempDir(), "swarm", "join"); err == nil || !strings.Contains(err.Error(), "used up") {
		t.Errorf("a third node joined with an invite for two: %v", err)
	}
	if _, err := a.output(60*time.Second, "train", "-f", "job.yaml", "--detach"); err != nil {
		t.Fatal(err)
	}
	checkAgreement(t, "secret", 4, a, others[0], others[1])
	if _, err := others[0].output(10*time.Second, "train", "-f", "job.yaml", "--detach"); err == nil || !strings.Contains(err.Error(), "is a volunteer") {
		t.Errorf("a volunteer submitted: %v", err)
	}

	stranger := newDaemon(t, "--swarm", "lab", "--bootstrap", a.addr())
	id := statusID(t, others[1])
	if _, err := a.output(10*time.Second, "swarm", "revoke", id); err != nil {
		t.Fatal(err)
	}
	for d, want := range map[*daemon]int{a: 1, others[0]: 1, others[1]: 0, stranger: 0} {
		eventually(t, 10*time.Second, "everybody is connected to the members alone", func() error {
			out, err := d.output(5*time.Second, "--json", "peers")
			if n := strings.Count(out, `"id"`); err == nil && n != want {
				t.Logf("%d peers, want %d", n, want)
				err = os.ErrInvalid
			}
			return err
		})
	}
	if log := a.log.tail(1 << 20); !strings.Contains(log, "used up") {
		t.Error("the admin's log does not say why the third node was refused")
	}
}

func statusID(t *testing.T, d *daemon) string {
	t.Helper()
	s, err := d.status()
	if err != nil {
		t.Fatal(err)
	}
	return s.ID
}
