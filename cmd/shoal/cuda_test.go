//go:build cuda

package main

import (
	"bytes"
	"debug/elf"
	"os"
	"strings"
	"testing"
)

// TestNothingOfCUDAIsLinked: a program with CUDA needs none of its libraries to start. This test's program is one.
func TestNothingOfCUDAIsLinked(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(self)
	if err != nil {
		t.Skip("not an ELF file: ", err)
	}
	defer f.Close()
	libs, err := f.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range libs {
		if strings.Contains(l, "cuda") || strings.Contains(l, "cublas") || strings.Contains(l, "nvidia") || strings.Contains(l, "stdc++") {
			t.Errorf("linked against %s", l)
		}
	}
	t.Log("needs ", libs)
}

// TestDoctorWithoutDriver: on a machine without a driver the doctor says so and all else goes on.
func TestDoctorWithoutDriver(t *testing.T) {
	t.Setenv("SHOAL_HOME", t.TempDir())
	t.Setenv("SHOAL_LIBCUDA", "/nowhere/libcuda.so.1")
	var out, errs bytes.Buffer
	if code := run([]string{"doctor", "gpu"}, &out, &errs); code != 0 {
		t.Errorf("exit status %d: %s", code, errs.String())
	}
	for _, want := range []string{"ok   device     cpu", "none is used: no NVIDIA driver: /nowhere/libcuda.so.1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("doctor gpu does not say %q:\n%s", want, out.String())
		}
	}
}
