//go:build cuda && cudaemu

package e2e

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels/cuda"
	"github.com/seed-7b27c88a/shoal/kernels/cuda/emu"
)

// withGPU lets daemons of this test have a GPU: the emulator, unless a driver is named. Run such tests by themselves, so that
// the program is built with CUDA.
func withGPU(t *testing.T) {
	t.Helper()
	if os.Getenv("SHOAL_MIXED") == "" {
		t.Skip("the emulator takes a minute or two for a job; SHOAL_MIXED=1 runs it")
	}
	t.Setenv("GOFLAGS", "-tags=cuda")
	t.Setenv("CGO_ENABLED", "1")
	if os.Getenv(cuda.LibraryVar) == "" {
		path, err := emu.Library("../../../kernels/cuda")
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv(cuda.LibraryVar, path)
		t.Setenv(cuda.LtVar, "none")
	}
}

// TestMixed: a processor and a GPU in one group follow the curve, and hold the same bits at the end.
func TestMixed(t *testing.T) {
	withGPU(t)
	dir := refDir(t)
	ref, rows := loadReference(t, dir), writeRows(t, dir)
	a := newDaemon(t, "--device", "cpu")
	b := newDaemon(t, "--device", "cuda:0", "--bootstrap", a.addr())
	job := submit(t, a, writeSpec(t, dir, true, rows, "swarm: {min_peers: 2}\n"))
	out := export(t, a, job)
	checkCurve(t, out, ref.LoRA, 1e-4)
	checkOnce(t, job, 50, 4, a, b)
	checkAgreement(t, job, 50, a, b)
}

// TestGPUFault: the process of a GPU is killed in mid-job. The daemon that started it lives, the others go on without it.
func TestGPUFault(t *testing.T) {
	withGPU(t)
	dir := refDir(t)
	ref, rows := loadReference(t, dir), writeRows(t, dir)
	a := newDaemon(t, "--device", "cpu")
	b := newDaemon(t, "--device", "cuda:0", "--bootstrap", a.addr())
	c := newDaemon(t, "--device", "cpu", "--bootstrap", a.addr())
	job := submit(t, a, writeSpec(t, dir, true, rows, "swarm: {min_peers: 3}\n"))
	waitStep(t, a, job, 6)
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(b.cmd.Process.Pid)).Output()
	if err != nil {
		t.Skip("pgrep: ", err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatalf("the daemon's processes are %q", out)
	}
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	result := export(t, a, job)
	checkCurve(t, result, ref.LoRA, curveAfterFaults)
	checkOnce(t, job, 50, 4, a, c)
	if _, err := b.status(); err != nil {
		t.Errorf("the daemon went down with its GPU: %v", err)
	}
}
