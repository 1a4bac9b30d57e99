package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// goal is a row of the table: the geometric mean of ratios of our figures to others'.
type goal struct {
	name   string
	ours   func(name string) bool   // which of our figures
	theirs func(name string) string // what each is held against
	least  float64
}

func prefixed(p string) func(string) bool {
	return func(n string) bool { return strings.HasPrefix(n, p) }
}

func itself(n string) string { return n }

func named(names ...string) func(string) bool {
	return func(n string) bool { return slices.Contains(names, n) }
}

// goals are those of the work: see docs/benchmarks/cuda.md.
var goals = []goal{
	{"products bf16 / torch.matmul", func(n string) bool { return strings.HasPrefix(n, "gemm") && strings.HasSuffix(n, "bf16") }, itself, 0.95},
	{"products f32 / torch.matmul", func(n string) bool { return strings.HasPrefix(n, "gemm") && strings.HasSuffix(n, "f32") }, itself, 0.95},
	{"attention forward / SDPA", prefixed("attention forward"), itself, 0.5},
	{"attention backward / SDPA", prefixed("attention backward"), itself, 0.4},
	{"memory-bound kernels / copy", named("rmsnorm bf16", "rmsnorm backward bf16", "swiglu bf16", "add bf16", "adamw"),
		func(string) string { return "copy on the GPU" }, 0.75},
	{"step 124M / torch eager", named("step llama124m B8 T2048 bf16"), itself, 1},
	{"step 124M / torch.compile", named("step llama124m B8 T2048 bf16"), compiled, 0.8},
	{"step 1.1B / torch eager", named("step llama1b B4 T2048 bf16"), itself, 1},
	{"step 1.1B / torch.compile", named("step llama1b B4 T2048 bf16"), compiled, 0.8},
	{"LoRA step 1.1B / torch eager", named("step llama1b B4 T2048 bf16 lora"), itself, 1.2},
}

func compiled(n string) string { return n + " compiled" }

// row is a goal and what was measured.
type row struct {
	goal
	ratio float64 // 0: not measured
	n     int
}

// rows compares the figures of both sides.
func rows(ours, theirs map[string]float64) (out []row) {
	for _, g := range goals {
		r, sum := row{goal: g}, 0.0
		for name, v := range ours {
			other := theirs[g.theirs(name)]
			if g.theirs(name) == "copy on the GPU" {
				other = ours["copy on the GPU"]
			}
			if g.ours(name) && v > 0 && other > 0 {
				sum += math.Log(v / other)
				r.n++
			}
		}
		if r.n > 0 {
			r.ratio = math.Exp(sum / float64(r.n))
		}
		out = append(out, r)
	}
	return out
}

// table is the rows for people.
func table(rows []row) string {
	var b strings.Builder
	b.WriteString("| what | ratio | goal | of figures |\n| --- | --- | --- | --- |\n")
	for _, r := range rows {
		ratio := "not run"
		if r.n > 0 {
			ratio = fmt.Sprintf("%.2f", r.ratio)
			if r.ratio < r.least {
				ratio += " (missed)"
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %.2f | %d |\n", r.name, ratio, r.least, r.n)
	}
	return b.String()
}

// judge writes the table and says what failed or is missed.
func (c *check) judge() error {
	sides, failed := map[string]map[string]float64{"shoal": {}, "torch": {}}, []string(nil)
	for name, s := range c.result.Steps {
		if !s.OK {
			failed = append(failed, name)
		}
		side, _, _ := strings.Cut(name, " ")
		for _, f := range s.Figures {
			sides[side][f.Name] = f.Value
		}
	}
	all := rows(sides["shoal"], sides["torch"])
	text := table(all)
	fmt.Print("\n", text)
	if err := os.WriteFile(filepath.Join(c.out, "table.md"), []byte(c.result.Date+"\n\n"+text), 0o644); err != nil {
		return err
	}
	for _, r := range all {
		if r.n == 0 || r.ratio < r.least {
			failed = append(failed, r.name)
		}
	}
	if len(failed) > 0 {
		slices.Sort(failed)
		return errors.New("failed, missed or not run: " + strings.Join(failed, "; "))
	}
	return nil
}
