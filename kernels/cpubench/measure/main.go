// Command measure prints what the cpu device reaches on this machine, as a table or as JSON.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/seed-7b27c88a/shoal/kernels/cpu"
	"github.com/seed-7b27c88a/shoal/kernels/cpubench"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

func main() {
	kind := flag.String("kernels", "", "kernel family; empty takes the best")
	workers := flag.Int("workers", 1, "1 measures processor time, more wall time")
	least := flag.Duration("least", 100*time.Millisecond, "repeat each measurement for at least this long")
	only := flag.String("only", "peak,gemm,attention,memory", "what to measure, of peak, gemm, bf16, attention, memory")
	most := flag.Int("most", 0, "leave out products of more multiply-adds; 0 takes all")
	asJSON := flag.Bool("json", false, "print JSON")
	flag.Parse()
	if err := run(*kind, *workers, *most, *least, strings.Split(*only, ","), *asJSON); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func run(kind string, workers, most int, least time.Duration, only []string, asJSON bool) error {
	dev, err := cpu.Open(kind)
	if err != nil {
		return err
	}
	defer dev.Close()
	b := cpubench.New(dev)
	b.Least, b.Most = least, most
	r := cpubench.Report{Model: dev.Info().Model, Kernel: dev.Info().Kernel, Workers: workers}
	for _, part := range []struct {
		name    string
		measure func(context.Context, int) ([]cpubench.Figure, error)
	}{
		{"peak", b.Peaks}, {"gemm", b.GEMMs}, {"bf16", func(ctx context.Context, n int) ([]cpubench.Figure, error) {
			return b.GEMMsOf(ctx, dtype.BF16, n)
		}}, {"attention", b.Attention}, {"memory", b.Memory},
	} {
		if !slices.Contains(only, part.name) {
			continue
		}
		f, err := part.measure(context.Background(), workers)
		if err != nil {
			return err
		}
		r.Figures = append(r.Figures, f...)
	}
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	table(r)
	return nil
}

// table prints a line for each figure and the geometric mean of the products.
func table(r cpubench.Report) {
	fmt.Printf("%s, %s kernels, workers %d\n", r.Model, r.Kernel, r.Workers)
	logs, shares, n := 0.0, 0.0, 0
	for _, f := range r.Figures {
		fmt.Printf("%-34s %8.1f %-8s", f.Name, f.Value, f.Unit)
		if f.OfPeak > 0 {
			fmt.Printf(" %5.1f %%", 100*f.OfPeak)
		}
		fmt.Println()
		if strings.HasPrefix(f.Name, "gemm") && f.OfPeak > 0 {
			logs, shares, n = logs+math.Log(f.Value), shares+math.Log(f.OfPeak), n+1
		}
	}
	if n > 0 {
		fmt.Printf("%-34s %8.1f %-8s %5.1f %%\n", "geometric mean of products", math.Exp(logs/float64(n)), "GFLOP/s", 100*math.Exp(shares/float64(n)))
	}
}
