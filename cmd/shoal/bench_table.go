package main

import (
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/seed-7b27c88a/shoal/kernels/cpubench"
)

// benchRow is a line of the table: figures of one name, by the number of threads, or the geometric mean of several.
type benchRow struct {
	name, unit string
	cells      []benchCell // one for each number of threads
}

// benchCell sums logarithms.
type benchCell struct {
	value, share float64
	n            int
}

func (c *benchCell) add(f cpubench.Figure) {
	c.value += math.Log(f.Value)
	c.share += math.Log(f.OfPeak)
	c.n++
}

// benchTable prints a report for people: a line for what was measured, a column for each number of threads.
func benchTable(w io.Writer, r cpubench.Report) {
	fmt.Fprintf(w, "%s, %s, %s kernels", r.Model, plural(r.Workers, "thread"), r.Kernel)
	if r.MemBytes > 0 {
		fmt.Fprintf(w, ", %.1f GiB", float64(r.MemBytes)/(1<<30))
	}
	fmt.Fprint(w, "\n\n")
	rows, threads := benchRows(r)
	fmt.Fprintf(w, "%-33s", "")
	for _, n := range threads {
		fmt.Fprintf(w, "%*s  of peak", benchWidth, plural(n, "thread"))
	}
	fmt.Fprintln(w)
	for _, row := range rows {
		fmt.Fprintf(w, "%-33s", row.name)
		for _, c := range row.cells {
			fmt.Fprint(w, c.text(row.unit))
		}
		fmt.Fprintln(w, row.gain())
	}
	fmt.Fprintln(w, "\nOne thread counts processor time, more wall time. The peak is measured beside each figure; the optimizer's\nis a plain loop with the same traffic.")
}

// benchWidth is how wide a figure with its unit is.
const benchWidth = 19

// gain is what all threads reach beside one.
func (row benchRow) gain() string {
	one, all := row.cells[0], row.cells[len(row.cells)-1]
	if len(row.cells) < 2 || one.n == 0 || all.n == 0 {
		return ""
	}
	return fmt.Sprintf("  %.2f×", math.Exp(all.value/float64(all.n)-one.value/float64(one.n)))
}

func (c benchCell) text(unit string) string {
	if c.n == 0 {
		return fmt.Sprintf("%*s", benchWidth+9, "")
	}
	value := fmt.Sprintf("%.1f %-8s", math.Exp(c.value/float64(c.n)), unit)
	share := ""
	if s := math.Exp(c.share / float64(c.n)); s > 0 {
		share = fmt.Sprintf("%.0f %%", 100*s)
	}
	return fmt.Sprintf("%*s%9s", benchWidth, value, share)
}

// benchRows groups figures: the layouts of a product share a line, and all products of a type have one more.
func benchRows(r cpubench.Report) (rows []*benchRow, threads []int) {
	column := map[int]int{}
	for _, f := range r.Figures {
		if _, ok := column[f.Workers]; !ok {
			column[f.Workers] = len(threads)
			threads = append(threads, f.Workers)
		}
	}
	byName := map[string]*benchRow{}
	add := func(name string, f cpubench.Figure) {
		row := byName[name]
		if row == nil {
			row = &benchRow{name: name, unit: f.Unit, cells: make([]benchCell, len(threads))}
			byName[name] = row
			rows = append(rows, row)
		}
		row.cells[column[f.Workers]].add(f)
	}
	var all []cpubench.Figure // products
	for i, f := range r.Figures {
		word := strings.Fields(f.Name)
		if word[0] != "gemm" {
			add(f.Name, f)
			continue
		}
		typ := word[len(word)-1]
		add(fmt.Sprintf("product %s %s", word[1], typ), f)
		all = append(all, f)
		if last := i+1 == len(r.Figures) || !strings.HasSuffix(r.Figures[i+1].Name, typ) || !strings.HasPrefix(r.Figures[i+1].Name, "gemm"); last {
			for _, f := range all {
				add("products "+typ+", geometric mean", f)
			}
			all = nil
		}
	}
	return rows, threads
}
