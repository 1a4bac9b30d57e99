//go:build cuda && cudaemu

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/kernels/cuda"
	"github.com/seed-7b27c88a/shoal/kernels/cuda/emu"
)

// withGPU lets daemons of this test have a GPU: the emulator, unless a driver is named. Run such tests by themselves, so that
// the program is built with CUDA.
func withGPU(t *testing.T) {
	t.Helper()
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

// atLength skips what takes the emulator a minute or two.
func atLength(t *testing.T) {
	t.Helper()
	if os.Getenv("SHOAL_MIXED") == "" {
		t.Skip("the emulator takes a minute or two for a job; SHOAL_MIXED=1 runs it")
	}
}

// TestMixedShort: a node with a processor and one with two GPUs follow the curve for ten steps and hold the same bits at the
// end, and so they do in a job whose gradients leave the GPU as bytes.
func TestMixedShort(t *testing.T) {
	t.Setenv("SHOAL_EMU_DEVICES", "2")
	t.Setenv(cuda.NVMLVar, "/nowhere")
	withGPU(t)
	dir := refDir(t)
	ref, rows := loadReference(t, dir), writeRows(t, dir)
	a := newDaemon(t, "--device", "cpu")
	b := newDaemon(t, "--device", "cuda:0,1", "--bootstrap", a.addr())
	if s, err := b.status(); err != nil || s.Device != "cuda:0,1" {
		t.Errorf("its device is %q (%v)", s.Device, err)
	}
	job := submit(t, a, shortened(t, writeSpec(t, dir, true, rows, "swarm: {min_peers: 2}\n"), 10))
	waitStep(t, a, job, 10) // the emulator takes its time
	out := export(t, a, job)
	checkCurve(t, out, ref.LoRA.first(10), 1e-4)
	checkOnce(t, job, 10, 4, a, b)
	checkAgreement(t, job, 10, a, b)

	job = submit(t, a, shortened(t, writeSpec(t, dir, true, rows, "swarm: {min_peers: 2}\nwire: {gradients: int8}\n"), 2))
	waitStep(t, a, job, 2)
	out = export(t, a, job)
	checkCurve(t, out, ref.LoRA.first(2), 5e-3)
	checkAgreement(t, job, 2, a, b)

	if _, err := b.output(10*time.Second, "limits", "set", "--max-gpu-memory", "512MiB"); err != nil {
		t.Error(err)
	}
	if _, err := b.output(10*time.Second, "limits", "set", "--max-gpu-temp", "70"); err == nil || !strings.Contains(err.Error(), "cannot be kept") {
		t.Errorf("a cap of temperature where no sensor is found: %v", err)
	}
}

// shortened is a spec of fewer steps.
func shortened(t *testing.T, path string, steps int) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		b = bytes.Replace(b, []byte("max_steps: 50"), fmt.Appendf(nil, "max_steps: %d", steps), 1)
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// first is the beginning of a curve.
func (c curve) first(n int) curve {
	c.F64.Loss, c.F64.Norm = c.F64.Loss[:n], c.F64.Norm[:n]
	return c
}

// TestMixed: a processor and a GPU in one group follow the curve, and hold the same bits at the end.
func TestMixed(t *testing.T) {
	atLength(t)
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
	atLength(t)
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
