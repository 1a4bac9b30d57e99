// Command versus runs shoal and its peers in turn on this machine and prints the ratios of docs/benchmarks/cpu.md.
//
//	make bench-cpu                          # all rows, about seven minutes
//	make bench-cpu ROWS="openblas onednn"   # some; each alone takes less than a minute
//	go run ./kernels/cpubench/versus -list
//
// A row divides a figure of one program by one of another. The programs take turns, round after round, and a row is the
// median of its rounds' ratios: what else goes on in a machine then meets both. With one thread figures count processor
// time, with more wall time. It needs Go, gcc, and the Debian packages libopenblas-dev, libdnnl-dev and python3-torch;
// what is not there is left out, by name. An interruption ends it with what was measured so far. Run
// it from the root of the repository.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "versus:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	list := flag.Bool("list", false, "print the rows and end")
	rounds := flag.Int("rounds", 3, "turns of each program at most")
	within := flag.Duration("within", 8*time.Minute, "begin no turn that would end later")
	threads := flag.Int("threads", 1, "of all programs, but for the rows that scale; more than one measures wall time")
	python := flag.String("python", "/usr/bin/python3", "that has torch")
	llmc := flag.String("llmc", os.Getenv("LLMC"), "checkout of llm.c to build, or none")
	flag.Parse()

	chosen, err := choose(rows, flag.Args())
	if err != nil || *list {
		for _, r := range chosen {
			fmt.Printf("%-12s %s\n", r.id, r.what)
		}
		return err
	}
	dir, err := os.MkdirTemp("", "versus")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := bench{dir: dir, threads: max(1, *threads), python: *python, llmc: *llmc, log: os.Stderr, built: map[string]error{}}
	got := b.measure(ctx, sidesOf(chosen), *rounds, *within)
	table(os.Stdout, chosen, got) // also of what was done before an interruption
	return ctx.Err()
}

// choose finds rows by id; no ids are all rows.
func choose(all []row, ids []string) ([]row, error) {
	if len(ids) == 0 {
		return all, nil
	}
	var out []row
	for _, id := range ids {
		i := slices.IndexFunc(all, func(r row) bool { return r.id == id })
		if i < 0 {
			return nil, fmt.Errorf("no row %q; -list prints them", id)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// table prints what was measured, a line for each row.
func table(w io.Writer, rows []row, got results) {
	fmt.Fprintf(w, "%-52s %10s %10s %8s  %s\n", "", "shoal", "beside", "ratio", "wanted")
	for _, r := range rows {
		a, b, ratio, err := r.value(got)
		if err != nil {
			fmt.Fprintf(w, "%-52s left out: %s\n", r.what, strings.TrimSpace(err.Error()))
			continue
		}
		beside := fmt.Sprintf("%10.1f", b)
		if r.b.side == "" {
			beside = fmt.Sprintf("%10s", "")
		}
		fmt.Fprintf(w, "%-52s %10.1f %s %8.3f  %s\n", r.what, a, beside, ratio, r.verdict(ratio))
	}
}
