package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/node"
	"github.com/seed-7b27c88a/shoal/node/prepare"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/data"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// evaluation is the answer of eval.
type evaluation struct {
	trainer.EvalReport
	Rows int `json:"rows,omitempty"`
}

// evalFlags are the flags of eval.
type evalFlags struct {
	modelFlags
	rows    []string
	kind    string
	tasks   []string
	shots   int
	base    string
	samples []string
	seqLen  int
	micro   int
}

func (a *app) evalCmd() *cobra.Command {
	var f evalFlags
	cmd := &cobra.Command{
		Use:   "eval [MODEL] [--tasks FILE]… [ROWS…]",
		Short: "loss, perplexity and token accuracy of a model on rows; answers to questions",
		Long: `Measures a model, with an adapter or without. MODEL is a directory, a stored name or hf:owner/name, in front or with
--model; ROWS are files as jobs train on. Files of questions (--tasks) have rows {"prompt", "choices", "answer"},
answered by the option that the model finds most likely, or {"prompt", "answer"}, answered by what it says next.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.model == "" && len(args) > 0 {
				f.model, args = args[0], args[1:]
			}
			f.rows = args
			spec, err := f.spec()
			if err != nil {
				return err
			}
			return a.withSources(func(src *prepare.Sources) error { return a.eval(cmd.Context(), src, spec, f) })
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.kind, "type", "", "of the rows: messages, alpaca, completion, text or tokens (default: by their keys)")
	fl.StringArrayVar(&f.tasks, "tasks", nil, "file of questions; may repeat")
	fl.IntVar(&f.shots, "fewshot", 0, "solved examples before each question, from the same file")
	fl.StringVar(&f.base, "base-text", "", "file of text whose loss is measured too")
	fl.StringArrayVar(&f.samples, "sample", nil, "prompt to continue; may repeat")
	fl.IntVar(&f.seqLen, "sequence-len", 0, "cut rows to so many tokens; 0: the model's limit")
	fl.IntVar(&f.micro, "micro-batch-size", 4, "rows at a time")
	return cmd
}

// spec is a job that would train on the rows; only its forward half is used.
func (f *evalFlags) spec() (job.Spec, error) {
	spec := job.Spec{Version: job.Version, BaseModel: f.model, Adapter: job.AdapterNone, MaxSteps: 1,
		SequenceLen: f.seqLen, MicroBatchSize: f.micro, Eval: job.Eval{BaseText: f.base, Samples: f.samples}}
	spec.Optimizer.LR = 1
	if f.adapter != "" {
		spec.Adapter, spec.LoraModelDir = "", f.adapter
	}
	for _, file := range f.rows {
		spec.Datasets = append(spec.Datasets, job.Dataset{Path: file, Type: f.kind})
	}
	for _, file := range f.tasks {
		spec.Eval.Tasks = append(spec.Eval.Tasks, job.Task{Path: file, FewShot: f.shots})
	}
	switch asked := len(f.tasks) > 0 || f.base != "" || len(f.samples) > 0; {
	case f.model == "":
		return spec, usagef("name a model, in front or with --model")
	case len(f.rows) == 0 && !asked:
		return spec, usagef("nothing to measure: name files of rows, or questions with --tasks")
	case len(f.tasks) == 0 && f.shots != 0:
		return spec, usagef("--fewshot belongs to questions; name them with --tasks")
	}
	if len(f.rows) == 0 { // a spec names rows; these are never opened
		spec.Datasets = []job.Dataset{{Path: "none"}}
	}
	if err := spec.Validate(); err != nil {
		return spec, usageError{err}
	}
	return spec, nil
}

func (a *app) eval(ctx context.Context, src *prepare.Sources, spec job.Spec, f evalFlags) (err error) {
	p := a.progress(0)
	store := shard.NewMem()
	in, err := src.Measured(ctx, &spec, len(f.rows) > 0, store, p.long)
	p.end()
	if err != nil {
		return err
	}
	l := &local{}
	if err := l.findMeasure(ctx, store, in); err != nil {
		return err
	}
	var rows trainer.Rows = nothing{}
	if len(f.rows) > 0 {
		a.sayRows(in.Built.Stats)
		if rows, err = data.Open(ctx, store, in.Built.Train); err != nil {
			return err
		}
		l.measure.Held = rows
	}
	dev, err := node.OpenDevice(f.device)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	return a.measure(ctx, l.measure, in, spec, rows, dev)
}

func (a *app) measure(ctx context.Context, m trainer.Measure, in *prepare.Inputs, spec job.Spec, rows trainer.Rows, dev kernels.Device) error {
	cfg := trainer.Config{Spec: &spec, Model: in.Model.Files, Rows: rows, Device: dev}
	if in.Adapter != nil {
		cfg.Adapter = in.Adapter.Files
	}
	tr, err := trainer.New(cfg)
	if err != nil {
		return err
	}
	defer tr.Close()
	r, err := tr.Measure(ctx, m)
	if err != nil {
		return errors.Join(err, ctx.Err())
	}
	if unbounded(r) {
		return errors.New("the loss is not finite: the model's or the adapter's weights are broken; use another checkpoint")
	}
	v := evaluation{EvalReport: r}
	if m.Held != nil {
		v.Rows = m.Held.Rows()
	}
	return a.answer(v, func(w io.Writer) { printEvaluation(w, v) })
}

func printEvaluation(w io.Writer, v evaluation) {
	if v.Rows > 0 {
		fmt.Fprintf(w, "loss %.4f  perplexity %.3f  tokens right %.2f %%  (%s, %s)\n", v.Loss, v.Perplexity, 100*v.Accuracy, plural(v.Rows, "row"), plural(int(v.Tokens), "target token"))
	}
	for _, t := range v.Tasks {
		fmt.Fprintf(w, "%s: %.2f %% of %s right", t.Name, 100*t.Accuracy, plural(t.Questions, "question"))
		if t.Choice {
			fmt.Fprintf(w, ", %.2f %% by likelihood per byte", 100*t.Normed)
		}
		fmt.Fprintln(w)
	}
	if v.BaseLoss != 0 {
		fmt.Fprintf(w, "base text: loss %.4f\n", v.BaseLoss)
	}
	for _, s := range v.Samples {
		fmt.Fprintf(w, "%q → %q\n", s.Prompt, s.Text)
	}
}

// nothing is what a model trains on that is only measured. It says that there is a row, which is never read.
type nothing struct{}

func (nothing) Rows() int { return 1 }
func (nothing) Row(context.Context, int) (ids, labels []int32, err error) {
	return nil, nil, errors.New("there are no rows")
}
