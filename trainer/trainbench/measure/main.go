// Command measure trains a model of a known shape for a few steps and prints a JSON line of what a step takes.
//
//	go run ./trainer/trainbench/measure -model llama15m -batch 4 -seq 256 -workers 1
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime/pprof"

	"github.com/seed-7b27c88a/shoal/kernels"
	_ "github.com/seed-7b27c88a/shoal/kernels/cpu"
	"github.com/seed-7b27c88a/shoal/trainer/trainbench"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func run() error {
	var o trainbench.Options
	model := flag.String("model", "llama15m", "model `shape`: llama15m or gpt2")
	batch, seq := flag.Int("batch", 4, "rows of a step"), flag.Int("seq", 256, "tokens of a row")
	device := flag.String("device", "cpu", "device, as cpu or cpu:avx2")
	profile := flag.String("profile", "", "`file` for a processor profile")
	flag.StringVar(&o.DType, "dtype", "", "fp32 or bf16")
	flag.BoolVar(&o.LoRA, "lora", false, "train a LoRA of rank 16 on every linear layer")
	flag.BoolVar(&o.Checkpoint, "checkpoint", false, "gradient checkpointing")
	flag.IntVar(&o.Steps, "steps", 5, "measured steps")
	flag.IntVar(&o.Workers, "workers", 1, "processors to use, 0: all")
	flag.Parse()

	dev, err := kernels.Open(*device)
	if err != nil {
		return err
	}
	defer dev.Close()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	r, err := trainbench.Step(dev, *model, *batch, *seq, o)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
