package main

import (
	"fmt"
	"slices"
)

// row divides a figure by another, or is a figure alone.
type row struct {
	id, what string
	a, b     figure
	want     float64 // 0: for comparison only
	less     bool    // the ratio is to be at most want
}

// figure names a number that a side's output has.
type figure struct{ side, key string }

// rows is the table of docs/benchmarks/cpu.md.
var rows = []row{
	{id: "peak", what: "f32 products / measured peak", a: figure{"gemm", "share"}, want: 0.90},
	{id: "openblas", what: "f32 products / OpenBLAS, GFLOP/s", a: figure{"gemm", "f32"}, b: figure{"openblas", "f32"}, want: 1.00},
	{id: "onednn", what: "f32 products / oneDNN, GFLOP/s", a: figure{"gemm", "f32"}, b: figure{"onednn", "f32"}, want: 0.95},
	{id: "avx2", what: "AVX2 products / OpenBLAS Haswell, GFLOP/s", a: figure{"gemm avx2", "f32"}, b: figure{"haswell", "f32"}, want: 0.95},
	{id: "bf16", what: "bf16 products / f32 products, GFLOP/s", a: figure{"gemm bf16", "bf16"}, b: figure{"gemm", "f32"}, want: 1.7},
	{id: "registers", what: "2 threads / 1, registers alone, GFLOP/s", a: figure{"gemm 2", "peak f32"}, b: figure{"gemm 1", "peak f32"}},
	{id: "scale", what: "2 threads / 1, f32 products, GFLOP/s", a: figure{"gemm 2", "f32"}, b: figure{"gemm 1", "f32"}, want: 1.85},
	{id: "scale-step", what: "2 threads / 1, step of the 15M Llama, tokens/s", a: figure{"step 2", "wall"}, b: figure{"step 1", "wall"}, want: 1.7},
	{id: "adamw", what: "AdamW / plain loop of its traffic, GB/s", a: figure{"memory", "optimizer AdamW"}, b: figure{"memory", "memory 4 in 3 out"}, want: 0.9},
	{id: "llama", what: "step 15M Llama B4 T256 f32 / PyTorch, tokens/s", a: figure{"step", "tokens"}, b: figure{"torch", "tokens"}, want: 1.6},
	{id: "rss", what: "its memory above the model's / PyTorch, MiB", a: figure{"step", "added"}, b: figure{"torch", "added"}, want: 0.5, less: true},
	{id: "heap", what: "its Go heap per step, KiB", a: figure{"step", "heap"}, want: 64, less: true},
	{id: "llama-bf16", what: "step 15M Llama B4 T256 bf16 / PyTorch f32, tokens/s", a: figure{"step bf16", "tokens"}, b: figure{"torch", "tokens"}, want: 2.4},
	{id: "autocast", what: "the same / PyTorch bf16 (autocast), tokens/s", a: figure{"step bf16", "tokens"}, b: figure{"torch bf16", "tokens"}},
	{id: "lora", what: "step 15M T256 LoRA r16 / full, tokens/s", a: figure{"step lora", "tokens"}, b: figure{"step", "tokens"}, want: 1.30},
	{id: "gpt2-64", what: "step GPT-2 124M B4 T64 f32 / PyTorch, tokens/s", a: figure{"gpt2 64", "tokens"}, b: figure{"torch gpt2 64", "tokens"}, want: 1.6},
	{id: "llmc", what: "step GPT-2 124M B4 T64 f32 / llm.c, tokens/s", a: figure{"gpt2 64", "tokens"}, b: figure{"llm.c", "tokens"}, want: 5},
	{id: "gpt2-lora", what: "step 124M T64 LoRA r16 / full, tokens/s", a: figure{"gpt2 lora", "tokens"}, b: figure{"gpt2 64", "tokens"}, want: 1.40},
	{id: "gpt2-256", what: "step GPT-2 124M B4 T256 f32 / PyTorch, tokens/s", a: figure{"gpt2 256", "tokens"}, b: figure{"torch gpt2 256", "tokens"}, want: 1.15},
}

// sidesOf are the programs that rows need, in the order of sides.
func sidesOf(rows []row) (out []side) {
	for _, s := range sides {
		if slices.ContainsFunc(rows, func(r row) bool { return r.a.side == s.name || r.b.side == s.name }) {
			out = append(out, s)
		}
	}
	return out
}

// value is a row's median figures and the median of its rounds' ratios.
func (r row) value(got results) (a, b, ratio float64, err error) {
	x, err := got.figures(r.a)
	if err != nil || r.b.side == "" {
		a = median(x)
		return a, 0, a, err
	}
	y, err := got.figures(r.b)
	if err != nil {
		return 0, 0, 0, err
	}
	n := min(len(x), len(y))
	ratios := make([]float64, n)
	for i := range n {
		ratios[i] = x[i] / y[i]
	}
	return median(x[:n]), median(y[:n]), median(ratios), nil
}

func (r row) verdict(ratio float64) string {
	sign, reached := "≥", ratio >= r.want
	if r.less {
		sign, reached = "≤", ratio <= r.want
	}
	switch {
	case r.want == 0:
		return ""
	case reached:
		return fmt.Sprintf("%s %.2f", sign, r.want)
	}
	return fmt.Sprintf("%s %.2f MISSED", sign, r.want)
}

// median leaves v as it is; of an even number it is the mean of the middle two.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
