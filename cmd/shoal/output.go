package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// checkOutput refuses, before any work, a directory that a result must not or cannot go to: one that overlaps with
// what the job reads, one that holds something else than an earlier result, and one that cannot be written. It leaves
// the disk as it was.
func checkOutput(dir string, inputs []string) error {
	for _, in := range inputs {
		if overlap(dir, in) {
			return fmt.Errorf("output %s overlaps with %s, which the job reads; choose another directory with -o", dir, in)
		}
	}
	if err := replaceable(dir); err != nil {
		return err
	}
	if err := writable(dir); err != nil {
		return fmt.Errorf("output %s: %w; choose another directory with -o", dir, err)
	}
	return nil
}

// inputs are the local paths that spec reads. Stored names and hf:… are left out: they are no paths.
func inputs(spec job.Spec) []string {
	refs := []string{spec.BaseModel, spec.LoraModelDir}
	for _, d := range spec.Datasets {
		refs = append(refs, d.Path)
	}
	for _, t := range spec.Eval.Tasks {
		refs = append(refs, t.Path)
	}
	refs = append(refs, spec.Eval.BaseText)
	var paths []string
	for _, r := range refs {
		if filepath.IsAbs(r) { // absolute has made those that exist so
			paths = append(paths, r)
		}
	}
	return paths
}

// overlap tells that one path is the other or lies in it, symbolic links resolved.
func overlap(a, b string) bool {
	a, b = resolved(a), resolved(b)
	return inside(a, b) || inside(b, a)
}

func inside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// resolved is path without symbolic links, as far as it exists.
func resolved(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real
	}
	if parent := filepath.Dir(abs); parent != abs {
		return filepath.Join(resolved(parent), filepath.Base(abs))
	}
	return abs
}

// replaceable accepts a directory that is not there, is empty, or holds an earlier result.
func replaceable(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0:
		return nil
	case err != nil:
		return fmt.Errorf("output: %w; choose another directory with -o", err)
	case !ours(filepath.Join(dir, api.MetricsFile)):
		return fmt.Errorf("output %s holds files that are not a result of shoal; choose another directory with -o, or remove it", dir)
	}
	return nil
}

// ours tells that a file is the metrics of a run: empty, or its first line is a step.
func ours(path string) bool {
	st, err := os.Lstat(path)
	if err != nil || !st.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	line, err := bufio.NewReaderSize(f, 4096).ReadSlice('\n')
	if err != nil {
		return len(line) == 0 && st.Size() == 0
	}
	var r trainer.StepReport
	return json.Unmarshal(line, &r) == nil && r.Step > 0
}

// writable makes dir, writes a file into it, and removes what it made.
func writable(dir string) error {
	var made []string // innermost first
	for p := filepath.Clean(dir); ; p = filepath.Dir(p) {
		if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, p)
	}
	defer func() {
		for _, p := range made {
			os.Remove(p) // only what is still empty goes
		}
	}()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write([]byte("\n"))
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}
