package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node/prepare"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// evaluation is the answer of eval.
type evaluation struct {
	trainer.EvalReport
	Rows int `json:"rows"`
}

func (a *app) evalCmd() *cobra.Command {
	var f modelFlags
	var kind string
	var seqLen, micro int
	cmd := &cobra.Command{
		Use:   "eval --model DIR|name FILE…",
		Short: "loss, perplexity and token accuracy of a model on rows",
		Args:  usage(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.model == "" {
				return usagef("name a model with --model")
			}
			spec := evalSpec(f, args, kind)
			spec.SequenceLen, spec.MicroBatchSize = seqLen, micro
			if err := spec.Validate(); err != nil {
				return usageError{err}
			}
			return a.withSources(func(src *prepare.Sources) error { return a.eval(cmd.Context(), src, spec, f.device) })
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&kind, "type", "", "of the rows: messages, alpaca, completion, text or tokens (default: by their keys)")
	cmd.Flags().IntVar(&seqLen, "sequence-len", 0, "cut rows to so many tokens; 0: the model's limit")
	cmd.Flags().IntVar(&micro, "micro-batch-size", 4, "rows at a time")
	return cmd
}

// evalSpec is a job that would train on the rows; only its forward half is used.
func evalSpec(f modelFlags, files []string, kind string) job.Spec {
	spec := job.Spec{Version: job.Version, BaseModel: f.model, Adapter: job.AdapterNone, MaxSteps: 1}
	if f.adapter != "" {
		spec.Adapter, spec.LoraModelDir = "", f.adapter
	}
	for _, file := range files {
		spec.Datasets = append(spec.Datasets, job.Dataset{Path: file, Type: kind})
	}
	spec.Optimizer.LR = 1
	return spec
}

func (a *app) eval(ctx context.Context, src *prepare.Sources, spec job.Spec, device string) error {
	l, err := a.loadLocal(ctx, src, spec, device)
	if err != nil {
		return err
	}
	defer l.close()
	r, err := l.trainer.Eval(ctx, l.rows)
	if err != nil {
		return errors.Join(err, ctx.Err())
	}
	if unbounded(r) {
		return errors.New("the loss is not finite: the model's or the adapter's weights are broken; use another checkpoint")
	}
	v := evaluation{r, l.rows.Rows()}
	return a.answer(v, func(w io.Writer) {
		fmt.Fprintf(w, "loss %.4f  perplexity %.3f  tokens right %.2f %%  (%s, %s)\n", v.Loss, v.Perplexity, 100*v.Accuracy, plural(v.Rows, "row"), plural(int(v.Tokens), "target token"))
	})
}

// unbounded tells that a loss was not finite: the report, which JSON has to carry, has the largest number for it.
func unbounded(r trainer.EvalReport) bool { return !(math.Abs(r.Loss) < math.MaxFloat64) }
