package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/seed-7b27c88a/shoal/node/prepare"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer/data"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// showFlags say whose tokens rows become and how many of them are shown.
type showFlags struct {
	model, tokenizer string
	samples          int
	spec             job.Spec // what of it says how rows become positions
}

func (a *app) dataShowCmd() *cobra.Command {
	var f showFlags
	var d job.Dataset
	cmd := &cobra.Command{
		Use:   "show FILE|name|hf:owner/name --model DIR|name",
		Short: "rows as a model sees them: their tokens, and which are learned",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (f.model == "") == (f.tokenizer == "") {
				return usagef("name the model whose tokenizer and chat template count with --model, or a directory with a tokenizer alone with --tokenizer")
			}
			if f.spec.SamplePacking && f.spec.SequenceLen == 0 {
				return usagef("--packing needs --sequence-len, the tokens that a position is filled up to")
			}
			d.Path = args[0]
			f.spec.Datasets = []job.Dataset{d}
			return a.withSources(func(src *prepare.Sources) error { return a.showRows(cmd.Context(), src, f) })
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.model, "model", "", "model: directory, stored name, or hf:owner/name[@rev]")
	fs.StringVar(&f.tokenizer, "tokenizer", "", "instead of a model: a directory with its tokenizer")
	fs.StringVar(&f.spec.ChatTemplate, "template", "", "chat template: tokenizer_default, chatml, llama3, mistral, gemma, phi3 or alpaca")
	fs.StringVar(&d.Type, "type", "", "of the rows (default: detected by their keys)")
	fs.StringVar(&d.Split, "split", "", "of a data set on the hub (default: train)")
	fs.StringVar(&d.Name, "name", "", "part of a data set on the hub that has several")
	fs.IntVar(&f.spec.SequenceLen, "sequence-len", 0, "tokens after which rows are cut (default: the model's limit)")
	fs.BoolVar(&f.spec.SamplePacking, "packing", false, "several rows in a position, as sample_packing does")
	fs.BoolVar(&f.spec.TrainOnInputs, "train-on-inputs", false, "learn prompts as well")
	fs.BoolVar(&f.spec.SkipBadRows, "skip-bad-rows", false, "count malformed rows instead of stopping at the first")
	fs.IntVar(&f.samples, "samples", 2, "rows to show")
	return cmd
}

// shownRow is a position of data show --json.
type shownRow struct {
	Row     int     `json:"row"`
	IDs     []int32 `json:"ids"`
	Labels  []int32 `json:"labels"`
	Cuts    []int   `json:"cuts,omitempty"` // where rows after the first begin
	Text    string  `json:"text"`           // what is learned between « and »
	Learned int     `json:"learned"`        // target tokens
}

// shownRows is the last line of data show --json.
type shownRows struct {
	Stats   data.Stats `json:"stats"`
	Lengths []bucket   `json:"lengths"`
}

func (a *app) showRows(ctx context.Context, src *prepare.Sources, f showFlags) error {
	open, ref := src.Model, f.model
	if f.tokenizer != "" {
		open, ref = src.Vocabulary, f.tokenizer
	}
	m, err := open(ctx, ref, nil)
	if err != nil {
		return err
	}
	mem := shard.NewMem()
	p := a.progress(0)
	built, err := src.Rows(ctx, &f.spec, m, mem, p.long)
	p.end()
	if err != nil {
		return err
	}
	rows, err := data.Open(ctx, mem, built.Train)
	if err != nil {
		return err
	}
	tok, err := m.Tokenizer()
	if err != nil {
		return err
	}
	mark := bracketed
	if terminal(a.out) && a.env("NO_COLOR") == "" {
		mark = dimmed
	}
	for i := range min(f.samples, rows.Rows()) {
		ids, labels, err := rows.Row(ctx, i)
		if err != nil {
			return err
		}
		r := shownRow{Row: i + 1, IDs: ids, Labels: labels, Cuts: rows.Cuts(i), Learned: rows.Targets(i)}
		r.Text = marked(r, tok, bracketed)
		if err := a.showRow(r, marked(r, tok, mark), mark); err != nil {
			return err
		}
	}
	return a.showLengths(shownRows{built.Stats, lengths(rows)})
}

// terminal says that a person is at the other end of f.
func terminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

func (a *app) showRow(r shownRow, text string, m marks) error {
	if a.json {
		return json.NewEncoder(a.out).Encode(r)
	}
	fmt.Fprintf(a.out, "row %d: %s, %d learned (%s)\n%s\n\n", r.Row, plural(len(r.IDs), "token"), r.Learned, m.legend, text)
	return nil
}

func (a *app) showLengths(v shownRows) error {
	a.sayRows(v.Stats)
	if a.json {
		return json.NewEncoder(a.out).Encode(v)
	}
	most := 1
	for _, b := range v.Lengths {
		most = max(most, b.Rows)
	}
	fmt.Fprintln(a.out, "rows by tokens")
	for _, b := range v.Lengths {
		fmt.Fprintf(a.out, "%7d to %-7d %7d %s\n", b.From, b.To, b.Rows, strings.Repeat("#", (40*b.Rows+most-1)/most))
	}
	return nil
}

// bucket counts the rows of From to To tokens.
type bucket struct {
	From int `json:"from"`
	To   int `json:"to"`
	Rows int `json:"rows"`
}

// lengths counts rows by powers of two, from the shortest to the longest.
func lengths(rows *data.Reader) (out []bucket) {
	var counts [32]int
	lo, hi := len(counts), 0
	for i := range rows.Rows() {
		from := 0
		for _, to := range append(rows.Cuts(i), rows.Len(i)) {
			k := 0
			for 1<<k < to-from {
				k++
			}
			counts[k]++
			lo, hi, from = min(lo, k), max(hi, k), to
		}
	}
	for k := lo; k <= hi; k++ {
		out = append(out, bucket{1<<k/2 + 1, 1 << k, counts[k]})
	}
	return out
}
