package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node/api"
)

func (a *app) jobCmd() *cobra.Command {
	cmd := group("job", "fine-tune jobs this node knows")
	cmd.AddCommand(a.jobLsCmd(), a.jobShowCmd(), a.jobLogsCmd(), a.jobRoundsCmd(), a.jobMetricsCmd(), a.jobCancelCmd(), a.jobCheckpointsCmd(), a.jobRollbackCmd(), a.jobResumeCmd(), a.jobRmCmd())
	return cmd
}

// jobVerb is a command about one job.
func (a *app) jobVerb(use, short string, run func(context.Context, *api.Client, string) error) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			a.tellNewest(cmd.Context(), c, args[0])
			return run(cmd.Context(), c, args[0])
		},
	}
}

// tellNewest says which job is meant by a name that several have. Whether there are any is for the verb itself to find.
func (a *app) tellNewest(ctx context.Context, c *api.Client, id string) {
	jobs, err := c.Jobs(ctx) // newest first
	if err != nil {
		return
	}
	jobs = slices.DeleteFunc(jobs, func(j api.Job) bool { return j.Name != id })
	if len(jobs) > 1 {
		a.say("%d jobs are called %s; this is the newest, %s of %s", len(jobs), id, short(jobs[0].ID), jobs[0].Created.Local().Format(time.DateTime))
	}
}

func (a *app) jobLsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "all jobs, newest first",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			jobs, err := c.Jobs(cmd.Context())
			if err != nil {
				return err
			}
			return list(a, jobs, "JOB\tNAME\tSTATE\tSTEP\tLOSS\tPEERS\tSUBMITTER", func(j api.Job) string {
				return fmt.Sprintf("%s\t%s\t%s\t%d/%d\t%.4f\t%d\t%s", short(j.ID), j.Name, j.State, j.Step, j.Steps, j.Loss, j.Peers, whose(j))
			})
		},
	}
}

func whose(j api.Job) string {
	if j.Mine {
		return "this node"
	}
	return short(j.Submitter)
}

func (a *app) jobShowCmd() *cobra.Command {
	return a.jobVerb("show JOB", "one job", func(ctx context.Context, c *api.Client, id string) error {
		j, err := c.Job(ctx, id)
		if err != nil {
			return err
		}
		return a.answer(j, func(w io.Writer) { printJob(w, j) })
	})
}

func printJob(w io.Writer, j api.Job) {
	row := func(k, format string, args ...any) { fmt.Fprintf(w, "%-10s %s\n", k, fmt.Sprintf(format, args...)) }
	row("job", "%s", j.ID)
	row("name", "%s", j.Name)
	state := j.State
	if j.Why != "" {
		state += ": " + j.Why
	}
	row("state", "%s", state)
	row("step", "%d of %d, settled up to %d", j.Step, j.Steps, j.Settled)
	row("loss", "%.4f", j.Loss)
	row("peers", "%d", j.Peers)
	row("submitter", "%s", whose(j))
	row("created", "%s", j.Created.Local().Format(time.DateTime))
	row("model", "%s", j.Model)
	row("method", "%s, %s, lr %g, batch %d", j.Spec.Adapter, j.Spec.Optimizer.Name, j.Spec.Optimizer.LR, j.Spec.GlobalBatchSize)
}

// errEnough ends an event stream that has told what was asked.
var errEnough = errors.New("enough")

func (a *app) jobLogsCmd() *cobra.Command {
	var follow bool
	cmd := a.jobVerb("logs JOB", "what happened in a job", func(ctx context.Context, c *api.Client, id string) error {
		j, err := c.Job(ctx, id)
		if err != nil {
			return err
		}
		if j.Events == 0 && !follow {
			return nil
		}
		lost := func(err error) { a.say("%v; trying again for %v", err, api.Patience) }
		err = c.Follow(ctx, j.ID, 0, api.Patience, lost, func(e api.Event) error {
			if err := a.answer(e, func(w io.Writer) { fmt.Fprintln(w, eventLine(e, j.Steps)) }); err != nil {
				return err
			}
			if !follow && e.Seq >= j.Events {
				return errEnough
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	})
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "wait for what happens next, until the job is over")
	return cmd
}

func eventLine(e api.Event, steps uint64) string {
	text := e.Text
	switch e.Kind {
	case api.EventStep:
		s := e.Step
		text = fmt.Sprintf("step %d/%d  loss %.4f  grad norm %.4g  lr %.3g  %s  %s", s.Progress(), steps, s.Loss, s.GradNorm, s.LR, plural(int(s.Tokens), "token"), plural(s.Peers, "peer"))
	case api.EventBack:
		text = fmt.Sprintf("back to step %d", e.To)
	case api.EventEval:
		text = evalLine(e.Eval)
	case api.EventState:
		if text = e.State; e.Text != "" {
			text += ": " + e.Text
		}
	}
	return e.Time.Local().Format(time.TimeOnly) + "  " + text
}

func (a *app) jobRoundsCmd() *cobra.Command {
	var picture string
	cmd := a.jobVerb("rounds JOB", "who worked on what, and why somebody was left out", func(ctx context.Context, c *api.Client, id string) error {
		rounds, err := c.Rounds(ctx, id)
		if err != nil {
			return err
		}
		if picture != "" {
			return writePicture(picture, func(w io.Writer) error { return roundsPicture(w, rounds) })
		}
		return list(a, rounds, "ROUND\tATTEMPTS\tSECONDS\tTOKENS\tMEMBERS AND POSITIONS\tLEFT OUT", roundLine)
	})
	cmd.Flags().StringVar(&picture, "svg", "", "write a timeline of members and rounds to this file instead")
	return cmd
}

func roundLine(r api.Round) string {
	var parts []string
	out := slices.Clone(r.Notes)
	for _, m := range r.Members {
		if m.Left != "" {
			out = append(out, short(string(m.Peer))+": "+m.Left)
		} else {
			part := member(m.Positions, string(m.Peer))
			if m.Stage > 0 {
				part = fmt.Sprintf("%d/%s", m.Stage, part)
			}
			parts = append(parts, part)
		}
	}
	return fmt.Sprintf("%d\t%d\t%.2f\t%d\t%s\t%s", r.Round, r.Attempts, r.Seconds, r.Tokens, strings.Join(parts, " "), strings.Join(out, "; "))
}

func member(positions [][2]uint64, peer string) string {
	text := short(peer) + ":"
	for i, p := range slices.SortedFunc(slices.Values(positions), func(a, b [2]uint64) int { return int(a[0]) - int(b[0]) }) {
		if i > 0 {
			text += ","
		}
		if text += fmt.Sprint(p[0]); p[1] > p[0]+1 {
			text += fmt.Sprintf("-%d", p[1]-1)
		}
	}
	return text
}

func (a *app) jobCancelCmd() *cobra.Command {
	return a.jobVerb("cancel JOB", "end a job that was submitted here", func(ctx context.Context, c *api.Client, id string) error {
		j, err := c.Cancel(ctx, id)
		if err != nil {
			return err
		}
		return a.answer(j, func(w io.Writer) { fmt.Fprintf(w, "%s is told to end\n", j.ID) })
	})
}
