package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRows(t *testing.T) {
	ours := map[string]float64{"gemm 1x1x1 nt bf16": 90, "gemm 2x2x2 nt bf16": 100, "copy on the GPU": 100, "adamw": 80, "attention forward d64": 10}
	theirs := map[string]float64{"gemm 1x1x1 nt bf16": 100, "gemm 2x2x2 nt bf16": 100, "attention forward d64": 40}
	text := table(rows(ours, theirs))
	for _, want := range []string{"| products bf16 / torch.matmul | 0.95 (missed) | 0.95 | 2 |", "| memory-bound kernels / copy | 0.80 | 0.75 | 1 |",
		"| attention forward / SDPA | 0.25 (missed) | 0.50 | 1 |", "| step 124M / torch eager | not run | 1.00 | 0 |"} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
}

// TestResume: what was done stays done, what failed is run again, and other programs begin anew.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho x >> \"" + dir + "/runs\"\n[ -e \"" + dir + "/good\" ] || exit 1\n" + `echo '{"figures": []}'` + "\n"
	program := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program("cuda.test", script)
	program("shoal", script)
	runs := func() int {
		b, err := os.ReadFile(filepath.Join(dir, "runs"))
		if err != nil {
			t.Skip("no shell: ", err)
		}
		return strings.Count(string(b), "x")
	}
	run := func() {
		c := &check{bin: dir, tests: dir, out: filepath.Join(dir, "out"), python: "/nowhere/python"}
		if err := c.run(t.Context()); err == nil {
			t.Error("goals that were not measured are met")
		}
	}
	run() // everything fails
	first := runs()
	program("good", "")
	run()
	second := runs() - first
	run()
	if third := runs() - first - second; second < 8 || third != 0 {
		t.Errorf("%d programs were started, then %d, then %d; want all, all, none", first, second, third)
	}
	program("shoal", script+"# another\n")
	run()
	if fourth := runs() - first - second; fourth != second {
		t.Errorf("other programs: %d steps were run again, want %d", fourth, second)
	}
}
