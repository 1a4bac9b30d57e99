package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/kernels/cpu"
	"github.com/seed-7b27c88a/shoal/kernels/cpubench"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/trainbench"
)

func (a *app) benchCmd() *cobra.Command {
	cmd := group("bench", "measure what this machine reaches")
	cmd.AddCommand(a.benchCPUCmd(), a.benchCUDACmd())
	return cmd
}

// benchFlags say what to measure.
type benchFlags struct {
	kernels string
	only    []string
	threads int
	quick   bool
}

func (a *app) benchCPUCmd() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "cpu",
		Short: "peak, products, attention, optimizer and training step of the processor",
		Long: `Measures the processor in this process, without a daemon: the peak of its arithmetic, products of the sizes that
training has, attention, the optimizer, and whole training steps. It takes about two minutes; other work on the machine
makes figures with all threads worse. With one thread they count processor time.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.benchCPU(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.kernels, "kernels", "", "avx512, avx2, neon or generic (default: the best that the processor has)")
	cmd.Flags().StringSliceVar(&f.only, "only", nil, "some of peak, gemm, bf16, attention, optimizer, step (default: all)")
	cmd.Flags().IntVar(&f.threads, "threads", 0, "measure with so many threads (default: with one and with all)")
	cmd.Flags().BoolVar(&f.quick, "quick", false, "a few seconds, small sizes: a look, no measurement")
	return cmd
}

func (a *app) benchCPU(ctx context.Context, f benchFlags) error {
	dev, err := cpu.Open(f.kernels)
	if err != nil {
		return usageError{err}
	}
	defer dev.Close()
	parts, err := f.parts(dev)
	if err != nil {
		return err
	}
	info := dev.Info()
	r := cpubench.Report{Model: info.Model, Kernel: info.Kernel, Workers: info.Workers, MemBytes: info.MemBytes}
	if r.Workers = max(r.Workers, f.threads); f.threads < 0 || f.threads > maxBenchThreads {
		return usagef("--threads %d; take 1 to %d, or 0 for one and all", f.threads, maxBenchThreads)
	}
	for _, p := range parts {
		for _, n := range f.workers(r.Workers) {
			a.say("measuring %s, %s…", p.Name, plural(n, "thread"))
			figures, err := p.Measure(ctx, n)
			if err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
			r.Figures = append(r.Figures, figures...)
		}
	}
	return a.answer(r, func(w io.Writer) { benchTable(w, r) })
}

const maxBenchThreads = 1024

// workers are the numbers of threads to measure with.
func (f benchFlags) workers(all int) []int {
	switch {
	case f.threads > 0:
		return []int{f.threads}
	case all == 1:
		return []int{1}
	}
	return []int{1, all}
}

// parts are the measurements that were asked for, in the order of the table.
func (f benchFlags) parts(dev *cpu.Device) ([]cpubench.Part, error) {
	b := cpubench.New(dev)
	b.Least, b.Small = 30*time.Millisecond, f.quick
	if f.quick {
		b.Least = time.Millisecond
	}
	all := append(b.Parts(), cpubench.Part{Name: "step", Measure: func(ctx context.Context, n int) ([]cpubench.Figure, error) {
		return benchSteps(ctx, dev, n, f.quick)
	}})
	if len(f.only) == 0 {
		return all, nil
	}
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	for _, o := range f.only {
		if !slices.Contains(names, o) {
			return nil, usagef("--only %s is not measured; choose some of %s", o, strings.Join(names, ", "))
		}
	}
	return slices.DeleteFunc(all, func(p cpubench.Part) bool { return !slices.Contains(f.only, p.Name) }), nil
}

// benchSteps measures training steps of a 15M Llama.
func benchSteps(ctx context.Context, dev *cpu.Device, workers int, quick bool) (out []cpubench.Figure, err error) {
	batch, seq, steps := 4, 256, 3
	if quick {
		batch, seq, steps = 1, 16, 1
	}
	for _, o := range []trainbench.Options{{}, {DType: job.BF16}, {LoRA: true}} {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		o.Workers, o.Steps = workers, steps
		r, err := trainbench.Step(dev, "llama15m", batch, seq, o)
		if err != nil {
			return out, err
		}
		seconds := r.Seconds
		if workers == 1 && r.CPUSeconds > 0 {
			seconds = r.CPUSeconds
		}
		out = append(out, cpubench.Figure{Name: "step " + r.Name, Workers: workers, Value: float64(r.Tokens) / seconds, Unit: "tokens/s"})
	}
	return out, nil
}
