package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node/prepare"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer/data"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/tokenizer"
)

func (a *app) dataShowCmd() *cobra.Command {
	var model, kind string
	var samples int
	cmd := &cobra.Command{
		Use:   "show FILE|name --model DIR|name",
		Short: "rows as a model sees them: their tokens, and which are learned",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if model == "" {
				return usagef("name the model whose tokenizer and chat template count with --model")
			}
			return a.withSources(func(src *prepare.Sources) error {
				return a.showRows(cmd.Context(), src, model, job.Dataset{Path: args[0], Type: kind}, samples)
			})
		},
	}
	cmd.Flags().StringVar(&model, "model", "", "model: directory, stored name, or hf:owner/name[@rev]")
	cmd.Flags().StringVar(&kind, "type", "", "of the rows (default: detected by their keys)")
	cmd.Flags().IntVar(&samples, "samples", 2, "rows to show")
	return cmd
}

// shownRow is a row of data show --json.
type shownRow struct {
	Row     int     `json:"row"`
	IDs     []int32 `json:"ids"`
	Labels  []int32 `json:"labels"`
	Learned int     `json:"learned"` // target tokens
}

func (a *app) showRows(ctx context.Context, src *prepare.Sources, ref string, d job.Dataset, samples int) error {
	m, err := src.Model(ctx, ref, nil)
	if err != nil {
		return err
	}
	mem := shard.NewMem()
	built, err := src.Rows(ctx, &job.Spec{Datasets: []job.Dataset{d}}, m, mem, nil)
	if err != nil {
		return err
	}
	a.sayRows(built.Stats)
	rows, err := data.Open(ctx, mem, built.Train)
	if err != nil {
		return err
	}
	tok, err := m.Tokenizer()
	if err != nil {
		return err
	}
	for i := range min(samples, rows.Rows()) {
		ids, labels, err := rows.Row(ctx, i)
		if err != nil {
			return err
		}
		if err := a.showRow(shownRow{i + 1, ids, labels, rows.Targets(i)}, tok); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) showRow(r shownRow, tok *tokenizer.Tokenizer) error {
	if a.json {
		return json.NewEncoder(a.out).Encode(r)
	}
	fmt.Fprintf(a.out, "row %d: %d tokens, %d learned (between « and »)\n%s\n\n", r.Row, len(r.IDs), r.Learned, marked(r, tok))
	return nil
}

// marked is the row's text with the learned parts between « and ».
func marked(r shownRow, tok *tokenizer.Tokenizer) string {
	var b strings.Builder
	learned := func(i int) bool { return i > 0 && i < len(r.IDs) && r.Labels[i] != data.Ignore }
	for lo := 0; lo < len(r.IDs); {
		hi := lo + 1
		for hi < len(r.IDs) && learned(hi) == learned(lo) {
			hi++
		}
		text := tok.DecodeAll(r.IDs[lo:hi])
		if learned(lo) {
			text = "«" + text + "»"
		}
		b.WriteString(text)
		lo = hi
	}
	return b.String()
}
