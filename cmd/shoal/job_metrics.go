package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/report"
)

func (a *app) jobMetricsCmd() *cobra.Command {
	var asCSV bool
	var svg string
	cmd := &cobra.Command{
		Use:   "metrics JOB|DIR",
		Short: "loss and gradient norm of every step, drawn or as numbers",
		Long:  "Draws the loss of a job that this node knows, or of a finished run's directory, as text; or writes every step.",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			steps, err := a.stepsOf(cmd.Context(), args[0])
			switch {
			case err != nil:
				return err
			case svg != "":
				return writeAtomic(svg, report.SVG(filepath.Base(args[0])+": loss", []report.Series{lossCurve(steps)}))
			case asCSV:
				return writeCSV(a.out, steps)
			case a.json:
				return list(a, steps, "", func(trainer.StepReport) string { return "" })
			}
			return a.drawSteps(steps)
		},
	}
	cmd.Flags().BoolVar(&asCSV, "csv", false, "a line of comma-separated numbers per step")
	cmd.Flags().StringVar(&svg, "svg", "", "write the curve to this file")
	return cmd
}

// stepsOf reads a result's metrics.jsonl, or asks the daemon.
func (a *app) stepsOf(ctx context.Context, ref string) ([]trainer.StepReport, error) {
	f, err := os.Open(filepath.Join(ref, api.MetricsFile))
	if err == nil {
		defer f.Close()
		return readSteps(f)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	return c.Metrics(ctx, ref, 0)
}

func readSteps(r io.Reader) (steps []trainer.StepReport, err error) {
	s := bufio.NewScanner(r)
	for n := 1; s.Scan(); n++ {
		var v trainer.StepReport
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", api.MetricsFile, n, err)
		}
		steps = append(steps, v)
	}
	return steps, s.Err()
}

func lossCurve(steps []trainer.StepReport) report.Series {
	s := report.Series{Name: "loss"}
	for _, r := range steps {
		if !r.Skipped {
			s.X, s.Y = append(s.X, float64(r.Step)), append(s.Y, r.Loss)
		}
	}
	return s
}

func (a *app) drawSteps(steps []trainer.StepReport) error {
	loss := lossCurve(steps).Y
	if len(loss) == 0 {
		_, err := fmt.Fprintln(a.out, "no steps yet")
		return err
	}
	var norm []float64
	for _, r := range steps {
		norm = append(norm, r.GradNorm)
	}
	last := steps[len(steps)-1]
	_, err := fmt.Fprintf(a.out, "%s%9s  loss over %s\ngrad norm  %s\nloss %.4f → %.4f  grad norm %.4g  lr %.3g  %s\n",
		report.Plot(loss, 64, 10), "", plural(len(steps), "step"), report.Spark(norm, 64), loss[0], loss[len(loss)-1], last.GradNorm, last.LR, plural(last.Peers, "peer"))
	return err
}

func writeCSV(out io.Writer, steps []trainer.StepReport) error {
	w := csv.NewWriter(out)
	_ = w.Write([]string{"step", "loss", "grad_norm", "lr", "tokens", "time", "peers", "skipped"}) // Flush keeps the error
	num := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	for _, r := range steps {
		_ = w.Write([]string{strconv.FormatUint(r.Step, 10), num(r.Loss), num(r.GradNorm), num(r.LR), strconv.FormatInt(r.Tokens, 10),
			num(r.Time), strconv.Itoa(r.Peers), strconv.FormatBool(r.Skipped)})
	}
	w.Flush()
	return w.Error()
}
