package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cuda/gpubench"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/trainbench"
)

// gpuReport is all figures of a run.
type gpuReport struct {
	Device   string            `json:"device"`
	Model    string            `json:"model"`
	MemBytes int64             `json:"mem_bytes"`
	Figures  []gpubench.Figure `json:"figures"`
}

func (a *app) benchCUDACmd() *cobra.Command {
	var device string
	var only []string
	var quick bool
	cmd := &cobra.Command{
		Use:   "cuda",
		Short: "launches, transfers, products, attention, optimizer and training step of a GPU",
		Long: `Measures a GPU in this process, without a daemon: what a launch costs, transfers, products of the sizes that training
has, attention, kernels that memory bounds, and whole training steps. Nothing else should use the GPU meanwhile.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.benchCUDA(cmd.Context(), device, only, quick) },
	}
	cmd.Flags().StringVar(&device, "device", "cuda:0", "the GPU")
	cmd.Flags().StringSliceVar(&only, "only", nil, "some of launch, copy, gemm, attention, memory, step (default: all)")
	cmd.Flags().BoolVar(&quick, "quick", false, "small sizes: a look, no measurement")
	return cmd
}

func (a *app) benchCUDA(ctx context.Context, device string, only []string, quick bool) error {
	dev, err := kernels.Open(device)
	if err != nil {
		return fmt.Errorf("%w; \"shoal doctor gpu\" tells more", err)
	}
	defer dev.Close()
	b := gpubench.New(dev)
	b.Small = quick
	parts := append(b.Parts(), gpubench.Part{Name: "step", Measure: func(ctx context.Context) ([]gpubench.Figure, error) { return gpuSteps(ctx, dev, quick) }})
	var names []string
	for _, p := range parts {
		names = append(names, p.Name)
	}
	for _, o := range only {
		if !slices.Contains(names, o) {
			return usagef("--only %s is not measured; choose some of %s", o, strings.Join(names, ", "))
		}
	}
	info := dev.Info()
	r := gpuReport{Device: info.Name, Model: info.Model, MemBytes: info.MemBytes}
	for _, p := range parts {
		if len(only) > 0 && !slices.Contains(only, p.Name) {
			continue
		}
		a.say("measuring %s…", p.Name)
		figures, err := p.Measure(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		r.Figures = append(r.Figures, figures...)
	}
	return a.answer(r, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s, %.1f GiB\n\n", r.Device, r.Model, float64(r.MemBytes)/(1<<30))
		for _, f := range r.Figures {
			fmt.Fprintf(w, "%-40s %12.1f %s\n", f.Name, f.Value, f.Unit)
		}
	})
}

// gpuSteps measures training steps of models of 124M and 1.1B parameters.
func gpuSteps(ctx context.Context, dev kernels.Device, quick bool) (out []gpubench.Figure, err error) {
	for _, c := range []struct {
		model      string
		batch, seq int
		o          trainbench.Options
	}{
		{"llama124m", 8, 2048, trainbench.Options{DType: job.BF16, Steps: 10}},
		{"llama1b", 4, 2048, trainbench.Options{DType: job.BF16, Steps: 5}},
		{"llama1b", 4, 2048, trainbench.Options{DType: job.BF16, Steps: 5, LoRA: true}},
	} {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		if quick {
			c.model, c.batch, c.seq, c.o.Steps = "llama15m", 1, 8, 1
		}
		r, err := trainbench.Step(dev, c.model, c.batch, c.seq, c.o)
		if err != nil {
			return out, err
		}
		out = append(out, gpubench.Figure{Name: "step " + r.Name, Value: float64(r.Tokens) / r.Seconds, Unit: "tokens/s"})
		if quick {
			break
		}
	}
	return out, nil
}
