package e2e

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestLocalParity trains in one process and follows PyTorch's 50-step curves.
func TestLocalParity(t *testing.T) {
	dir := refDir(t)
	ref, rows := loadReference(t, dir), writeRows(t, dir)
	for _, tc := range []struct {
		name string
		lora bool
		want curve
	}{{"lora", true, ref.LoRA}, {"full", false, ref.Full}} {
		t.Run(tc.name, func(t *testing.T) {
			out := t.TempDir()
			if _, err := run(2*time.Minute, shoalBinary(t), "--home", t.TempDir(), "train", "--local",
				"-f", writeSpec(t, dir, tc.lora, rows, ""), "-o", out); err != nil {
				t.Fatal(err)
			}
			checkCurve(t, out, tc.want, mustLoss)
		})
	}
}

// TestGenerateParity reproduces the reference's greedy continuations.
func TestGenerateParity(t *testing.T) {
	dir := refDir(t)
	for _, g := range loadReference(t, dir).Generation {
		out, err := run(time.Minute, shoalBinary(t), "--home", t.TempDir(), "--json", "generate",
			"--model", filepath.Join(dir, "models/stories260K"), "--temperature", "0", "--max-tokens", "64", g.Prompt)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Text string  `json:"text"`
			IDs  []int32 `json:"ids"`
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("generate --json printed %q: %v", out, err)
		}
		if !slices.Equal(got.IDs, g.Generated) {
			t.Errorf("prompt %q:\n got %v\nwant %v", g.Prompt, got.IDs, g.Generated)
		}
	}
}

// TestSwarmParity submits the reference jobs to three daemons, whose kernels differ, and follows the same curves.
func TestSwarmParity(t *testing.T) {
	dir := refDir(t)
	ref, rows := loadReference(t, dir), writeRows(t, dir)
	a := newDaemon(t, "--device", "cpu")
	b := newDaemon(t, "--device", "cpu:generic", "--bootstrap", a.addr())
	c := newDaemon(t, "--device", "cpu:avx2", "--bootstrap", a.addr())
	for _, tc := range []struct {
		name string
		lora bool
		want curve
	}{{"lora", true, ref.LoRA}, {"full", false, ref.Full}} {
		t.Run(tc.name, func(t *testing.T) {
			out := t.TempDir()
			if _, err := a.output(4*time.Minute, "train", "-f",
				writeSpec(t, dir, tc.lora, rows, "swarm: {min_peers: 3}\n"), "-o", out); err != nil {
				t.Fatal(err)
			}
			checkCurve(t, out, tc.want, mustLoss)
			checkAgreement(t, lastJob(t, a), 50, a, b, c)
		})
	}
}
