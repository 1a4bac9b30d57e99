// Command gpucheck runs on a machine with a GPU what no other machine can: the conformance suite on the chip, sizes of
// real layers against the processor, the memory checker, and speed beside PyTorch in the same minutes. It needs nothing of
// Go: "make gpu-check" builds it and the programs it starts into one folder, which can be copied.
//
// Each step's result goes to result.json at once, under the hash of the programs, so that a run that was cut off goes
// on where it stopped. The table of ratios is written to table.md; goals that are missed make the exit status 1.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed torch_ref.py
var torchRef []byte

func main() {
	bin := flag.String("bin", "build/gpu", "folder with cuda.test and shoal")
	tests := flag.String("tests", "kernels/cuda", "folder that cuda.test belongs to")
	out := flag.String("out", "build/gpu-check", "folder for result.json and table.md; a run that was cut off goes on there")
	python := flag.String("python", "python3", "Python with PyTorch")
	flag.Parse()
	c := &check{tests: *tests, out: *out, python: *python}
	var err error
	if c.bin, err = filepath.Abs(*bin); err == nil {
		err = c.run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpucheck:", err)
		os.Exit(1)
	}
}

// check is one run.
type check struct {
	bin, tests, out, python string
	result                  result
}

// result is what result.json holds.
type result struct {
	Programs string          `json:"programs"` // hash
	Date     string          `json:"date"`     // of the first step
	Steps    map[string]step `json:"steps"`
}

// step is what came of one step.
type step struct {
	OK      bool     `json:"ok"`
	Seconds float64  `json:"seconds"`
	Output  string   `json:"output"` // its end
	Figures []figure `json:"figures,omitempty"`
}

type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// command is a step to run.
type command struct {
	name    string
	args    []string
	dir     string
	limit   time.Duration
	figures func(out []byte) ([]figure, error)
	missing string // a program without which the step is left out, with success
}

func (c *check) run(ctx context.Context) error {
	if err := c.load(); err != nil {
		return err
	}
	for _, s := range c.commands() {
		if done, ok := c.result.Steps[s.name]; ok && done.OK {
			fmt.Printf("%-22s done before\n", s.name)
			continue
		}
		r := c.step(ctx, s)
		fmt.Printf("%-22s %s in %.0f s\n", s.name, map[bool]string{true: "ok", false: "FAILED"}[r.OK], r.Seconds)
		if !r.OK {
			fmt.Println(r.Output)
		}
		c.result.Steps[s.name] = r
		if err := c.save(); err != nil {
			return err
		}
	}
	return c.judge()
}

// commands are the steps, those that prove things first.
func (c *check) commands() []command {
	test, shoal := filepath.Join(c.bin, "cuda.test"), filepath.Join(c.bin, "shoal")
	torch := filepath.Join(c.out, "torch_ref.py")
	list := []command{
		{name: "doctor", args: []string{shoal, "--json", "doctor", "gpu"}, limit: time.Minute},
		{name: "conformance", args: []string{test, "-test.v", "-test.run", "Conformance|Transfers|Order|Fresh|Limit|Closed|Steady"}, dir: c.tests, limit: 3 * time.Minute},
		{name: "large shapes", args: []string{test, "-test.v", "-test.run", "Large"}, dir: c.tests, limit: 3 * time.Minute},
		{name: "memory checker", args: []string{"compute-sanitizer", "--error-exitcode", "9", "--tool", "memcheck", test, "-test.run",
			"Conformance/^(Elementwise|RMSNorm|Rows|Attention|Head|F16)$"}, dir: c.tests, limit: 3 * time.Minute, missing: "compute-sanitizer"},
	}
	for _, part := range []string{"copy", "gemm", "attention", "memory", "launch", "step"} {
		list = append(list, command{name: "shoal " + part, args: []string{shoal, "--json", "bench", "cuda", "--only", part}, limit: 2 * time.Minute, figures: ours})
		if part != "memory" && part != "launch" {
			list = append(list, command{name: "torch " + part, args: []string{c.python, torch, part}, limit: 3 * time.Minute, figures: theirs})
		}
	}
	return list
}

func ours(out []byte) ([]figure, error) {
	var r struct{ Figures []figure }
	err := json.Unmarshal(out, &r)
	return r.Figures, err
}

func theirs(out []byte) (f []figure, err error) {
	err = json.Unmarshal(out, &f)
	return f, err
}

// step runs one.
func (c *check) step(ctx context.Context, s command) step {
	if s.missing != "" {
		if _, err := exec.LookPath(s.missing); err != nil {
			return step{OK: true, Output: "left out: " + err.Error()}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.args[0], s.args[1:]...)
	cmd.Dir, cmd.WaitDelay = s.dir, 5*time.Second
	cmd.Env = append(os.Environ(), "SHOAL_REQUIRE_GPU=1", "SHOAL_HOME="+filepath.Join(c.out, "home"))
	var out, all bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, &all), &all
	start := time.Now()
	err := cmd.Run()
	r := step{OK: err == nil, Seconds: time.Since(start).Seconds()}
	if err == nil && s.figures != nil {
		if r.Figures, err = s.figures(out.Bytes()); err != nil {
			r.OK = false
		}
	}
	text := all.String()
	if err != nil {
		text += "\n" + err.Error()
	}
	r.Output = strings.TrimSpace(text[max(0, len(text)-4000):])
	return r
}

// load takes over what an earlier run of the same programs did.
func (c *check) load() (err error) {
	if c.out, err = filepath.Abs(c.out); err != nil {
		return err
	}
	if err := os.MkdirAll(c.out, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.out, "torch_ref.py"), torchRef, 0o644); err != nil {
		return err
	}
	h := sha256.New()
	for _, name := range []string{"cuda.test", "shoal"} {
		f, err := os.Open(filepath.Join(c.bin, name))
		if err != nil {
			return fmt.Errorf("%w; \"make gpu-check\" builds it where Go is", err)
		}
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	programs := hex.EncodeToString(h.Sum(nil))
	if b, err := os.ReadFile(c.file()); err == nil {
		_ = json.Unmarshal(b, &c.result) // a broken file is begun anew
	}
	if c.result.Programs != programs || c.result.Steps == nil {
		c.result = result{Programs: programs, Date: time.Now().UTC().Format(time.DateOnly), Steps: map[string]step{}}
	}
	return nil
}

func (c *check) file() string { return filepath.Join(c.out, "result.json") }

func (c *check) save() error {
	b, err := json.MarshalIndent(c.result, "", "\t")
	if err != nil {
		return err
	}
	tmp := c.file() + ".tmp"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, c.file())
}
