package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node/api"
)

func (a *app) jobRmCmd() *cobra.Command {
	var yes bool
	cmd := a.jobVerb("rm JOB", "forget a job that was submitted here and is over, with its log and result", func(ctx context.Context, c *api.Client, id string) error {
		j, err := c.Job(ctx, id)
		if err != nil {
			return err
		}
		if !yes {
			if ok, err := a.confirm("remove job %s (%s, %s at step %d of %d) with its log and result?", short(j.ID), j.Name, j.State, j.Step, j.Steps); err != nil || !ok {
				return err
			}
		}
		r, err := c.Remove(ctx, j.ID)
		return a.answerRemoved(r, r.ID, err)
	})
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// confirm asks a person; without one it is an error, and --yes the way.
func (a *app) confirm(question string, args ...any) (bool, error) {
	if !terminal(os.Stdin) {
		return false, usagef("this cannot be undone, and nobody is there to be asked: add --yes")
	}
	fmt.Fprintf(a.err, question+" [y/N] ", args...)
	line, err := bufio.NewReader(io.LimitReader(os.Stdin, 64)).ReadString('\n')
	if err != nil && line == "" {
		return false, err
	}
	if s := strings.ToLower(strings.TrimSpace(line)); s != "y" && s != "yes" {
		a.say("nothing was removed")
		return false, nil
	}
	return true, nil
}
