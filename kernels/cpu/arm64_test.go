package cpu

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// TestEmulated runs the tests of products for arm64 under an emulator: the same bits as everywhere.
func TestEmulated(t *testing.T) {
	if runtime.GOARCH == "arm64" {
		t.Skip("this is an arm64: its tests have run")
	}
	emulator, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		t.Skip("no qemu-aarch64-static (Debian package qemu-user-static) to run arm64 code with")
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command to build for arm64 with")
	}
	binary := filepath.Join(t.TempDir(), "cpu.test")
	build := exec.Command(tool, "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	out, err := exec.Command(emulator, binary, "-test.short", "-test.run", "^(TestGemmBits|TestConformance)$/^(cpu:neon)?$/^(MatMul)?$").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
