package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
)

func (a *app) jobCheckpointsCmd() *cobra.Command {
	return a.jobVerb("checkpoints JOB", "what a job can go back to", func(ctx context.Context, c *api.Client, id string) error {
		all, err := c.Checkpoints(ctx, id)
		if err != nil {
			return err
		}
		return list(a, all, "STEP\tLOSS\tSIZE\tSTATE\tHOLDERS", checkpointLine)
	})
}

func checkpointLine(c api.Checkpoint) string {
	size, state, loss := "?", "not settled", "?"
	if c.Here {
		size = config.Bytes(c.Bytes).String()
	}
	if c.Settled {
		state = "settled"
	}
	if c.Left {
		state = "left by a rollback"
	}
	if c.Best {
		state += ", best"
	}
	if c.Loss != 0 {
		loss = fmt.Sprintf("%.4f", c.Loss)
	}
	holders := ""
	for i, h := range c.Holders {
		if i > 0 {
			holders += " "
		}
		holders += short(string(h))
	}
	if holders == "" {
		holders = "this node"
	}
	return fmt.Sprintf("%d\t%s\t%s\t%s\t%s", c.Step, loss, size, state, holders)
}

func (a *app) jobResumeCmd() *cobra.Command {
	return a.jobVerb("resume JOB", "let a job that was cancelled or failed go on from its newest checkpoint", func(ctx context.Context, c *api.Client, id string) error {
		j, err := c.ResumeJob(ctx, id)
		if err != nil {
			return err
		}
		return a.answer(j, func(w io.Writer) { fmt.Fprintf(w, "%s %s\n", j.ID, j.State) })
	})
}

func (a *app) jobRollbackCmd() *cobra.Command {
	var step int64
	cmd := a.jobVerb("rollback JOB --step N", "let a job go on from the checkpoint of a step", func(ctx context.Context, c *api.Client, id string) error {
		if step < -1 {
			return usageError{fmt.Errorf("--step %d: want 0 or more", step)}
		}
		if step < 0 {
			return usageError{fmt.Errorf("--step is missing; \"shoal job checkpoints %s\" lists what there is, 0 is the beginning", id)}
		}
		j, err := c.Rollback(ctx, id, uint64(step))
		if err != nil {
			return err
		}
		return a.answer(j, func(w io.Writer) { fmt.Fprintf(w, "%s goes on after step %d\n", j.ID, step) })
	})
	cmd.Flags().Int64Var(&step, "step", -1, "step of the checkpoint to go back to, as \"job checkpoints\" shows it; 0: the beginning")
	return cmd
}
