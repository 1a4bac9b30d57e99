package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// side is a program that runs once a round.
type side struct {
	name    string
	build   string // of builds
	args    string // THREADS stands for their number
	env     string // beside what all have
	threads int    // 0: as the command line says
	most    int    // rounds; 0: as many as the command line says
}

const (
	steps       = "docs/benchmarks/peers/step.py"
	productArgs = "bench cpu --json --only peak,gemm --threads THREADS"
)

// sides stand in the order of their turns: those that are compared are neighbours.
var sides = []side{
	{name: "openblas", build: "openblas", args: "THREADS"},
	{name: "gemm", build: "shoal", args: productArgs},
	{name: "onednn", build: "onednn", args: "THREADS"},
	{name: "gemm bf16", build: "shoal", args: "bench cpu --json --only bf16 --threads THREADS"},
	{name: "haswell", build: "openblas", args: "THREADS", env: "OPENBLAS_CORETYPE=Haswell"},
	{name: "gemm avx2", build: "shoal", args: productArgs + " --kernels avx2"},
	{name: "gemm 1", build: "shoal", args: productArgs, threads: 1},
	{name: "gemm 2", build: "shoal", args: productArgs, threads: 2},
	{name: "memory", build: "shoal", args: "bench cpu --json --only optimizer --threads THREADS"},
	{name: "step 1", build: "step", args: "-steps 3 -workers 1", most: 2},
	{name: "step 2", build: "step", args: "-steps 3 -workers 2", most: 2},
	{name: "step", build: "step", args: "-steps 3 -workers THREADS", most: 2},
	{name: "torch", build: "torch", args: steps + " llama15m 4 256 3", most: 2},
	{name: "step bf16", build: "step", args: "-steps 3 -workers THREADS -dtype bf16", most: 2},
	{name: "torch bf16", build: "torch", args: steps + " llama15m 4 256 2 bf16", most: 2},
	{name: "step lora", build: "step", args: "-steps 3 -workers THREADS -lora", most: 2},
	{name: "gpt2 64", build: "step", args: "-model gpt2 -seq 64 -steps 2 -workers THREADS", most: 2},
	{name: "torch gpt2 64", build: "torch", args: steps + " gpt2 4 64 2", most: 2},
	{name: "gpt2 lora", build: "step", args: "-model gpt2 -seq 64 -steps 2 -workers THREADS -lora", most: 2},
	{name: "llm.c", build: "llm.c", args: "4 64 1", most: 1},
	{name: "gpt2 256", build: "step", args: "-model gpt2 -seq 256 -steps 2 -workers THREADS", most: 1},
	{name: "torch gpt2 256", build: "torch", args: steps + " gpt2 4 256 2", most: 1},
}

// bench runs sides. Programs are built when first needed.
type bench struct {
	dir     string // of the programs
	threads int
	python  string
	llmc    string
	log     io.Writer
	built   map[string]error
}

// results are the numbers of each side's rounds, or why there are none.
type results map[string]*outcome

type outcome struct {
	rounds []map[string]float64
	err    error
}

// figures are those of a side's rounds.
func (r results) figures(f figure) ([]float64, error) {
	o := r[f.side]
	if o == nil {
		return nil, fmt.Errorf("%s was not measured", f.side)
	}
	if o.err != nil {
		return nil, fmt.Errorf("%s: %w", f.side, o.err)
	}
	var out []float64
	for _, round := range o.rounds {
		v, ok := round[f.key]
		if !ok {
			return nil, fmt.Errorf("%s prints no %q", f.side, f.key)
		}
		out = append(out, v)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s did not run", f.side)
	}
	return out, nil
}

// patience bounds one turn of a program.
const patience = 90 * time.Second

// measure lets the sides take turns. It begins no round that would end after within, as far as the last one tells.
func (b *bench) measure(ctx context.Context, sides []side, rounds int, within time.Duration) results {
	got, same := results{}, map[string]*outcome{}
	for _, s := range sides {
		if o := same[b.line(s)]; o != nil { // two names of one program: it runs once
			got[s.name] = o
			continue
		}
		got[s.name] = &outcome{err: b.need(ctx, s.build)}
		same[b.line(s)] = got[s.name]
	}
	start := time.Now()
	for r := range rounds {
		begin := time.Now()
		for _, s := range sides {
			o := got[s.name]
			if o.err == nil && len(o.rounds) == r && (s.most == 0 || r < s.most) && ctx.Err() == nil {
				b.turn(ctx, s, o)
			}
		}
		if time.Since(start)+time.Since(begin) > within {
			break
		}
	}
	return got
}

// turn runs a side once and keeps its figures. What was interrupted is no failure of the program.
func (b *bench) turn(ctx context.Context, s side, o *outcome) {
	start := time.Now()
	figures, err := b.start(ctx, s)
	if ctx.Err() != nil {
		return
	}
	fmt.Fprintf(b.log, "round %d  %-16s %5.1f s\n", len(o.rounds)+1, s.name, time.Since(start).Seconds())
	if o.err = err; err == nil {
		o.rounds = append(o.rounds, figures)
	}
}

// threadsOf is how many threads a side has.
func (b *bench) threadsOf(s side) int {
	if s.threads > 0 {
		return s.threads
	}
	return b.threads
}

// line is what a side runs.
func (b *bench) line(s side) string {
	return s.env + " " + s.build + " " + strings.ReplaceAll(s.args, "THREADS", strconv.Itoa(b.threadsOf(s)))
}

// start runs a program and reads its figures.
func (b *bench) start(ctx context.Context, s side) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	threads := strconv.Itoa(b.threadsOf(s))
	program := filepath.Join(b.dir, s.build)
	if s.build == "torch" {
		program = b.python
	}
	cmd := exec.CommandContext(ctx, program, strings.Fields(strings.ReplaceAll(s.args, "THREADS", threads))...)
	cmd.Env = append(os.Environ(), "ATEN_CPU_CAPABILITY=avx512", "OPENBLAS_NUM_THREADS="+threads, "OMP_NUM_THREADS="+threads)
	if os.Getenv("OPENBLAS_CORETYPE") == "" { // Debian's OpenBLAS does not know newer processors and takes AVX2 kernels
		cmd.Env = append(cmd.Env, "OPENBLAS_CORETYPE="+coreType())
	}
	if s.env != "" {
		cmd.Env = append(cmd.Env, s.env)
	}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", errors.Join(err, ctx.Err()), lastLine(complaint.String()))
	}
	return parse(out.Bytes(), b.threadsOf(s))
}

// coreType is the fastest of OpenBLAS's kernels that this processor runs.
func coreType() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	if bytes.Contains(b, []byte(" avx512f ")) {
		return "Cooperlake"
	}
	return "Haswell"
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// builds are the commands that make programs, at DIR/name.
var builds = map[string]string{
	"shoal":    "go build -o PROGRAM ./cmd/shoal",
	"step":     "go build -o PROGRAM ./trainer/trainbench/measure",
	"openblas": "gcc -O2 -DPEER_OPENBLAS docs/benchmarks/peers/gemm.c -o PROGRAM -lopenblas",
	"onednn":   "gcc -O2 -DPEER_ONEDNN docs/benchmarks/peers/gemm.c -o PROGRAM -ldnnl -fopenmp",
	"llm.c":    "gcc -Ofast -march=native -fopenmp -w -ILLMC docs/benchmarks/peers/llmc.c -o PROGRAM -lm",
	"torch":    "PYTHON -c import(torch)",
}

// need builds a program, once.
func (b *bench) need(ctx context.Context, name string) error {
	if err, ok := b.built[name]; ok {
		return err
	}
	if name == "llm.c" && b.llmc == "" {
		b.built[name] = errors.New("say with -llmc or LLMC where a checkout of github.com/karpathy/llm.c is")
		return b.built[name]
	}
	line := strings.NewReplacer("PROGRAM", filepath.Join(b.dir, name), "LLMC", b.llmc, "PYTHON", b.python).Replace(builds[name])
	args := strings.Fields(line)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "import(torch)", "import torch")
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, lastLine(string(out)))
	}
	b.built[name] = err
	return err
}
