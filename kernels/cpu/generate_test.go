package cpu

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestGenerated: the checked-in assembly is what the generator writes.
func TestGenerated(t *testing.T) {
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command to run the generator with")
	}
	dir := t.TempDir()
	run := exec.Command(tool, "run", ".", "-out", dir)
	run.Dir = "../gen"
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("generator: %v\n%s", err, out)
	}
	written, err := os.ReadDir(dir)
	if err != nil || len(written) == 0 {
		t.Fatalf("the generator wrote nothing: %v", err)
	}
	for _, f := range written {
		fresh, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if have, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(have, fresh) {
			t.Errorf("%s is not what kernels/gen writes; run \"make generate\" (%v)", f.Name(), err)
		}
	}
}
