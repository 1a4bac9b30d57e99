package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
)

func (a *app) pauseCmd() *cobra.Command {
	var long string
	cmd := &cobra.Command{
		Use:   "pause",
		Short: "stop working at once; the node stays connected",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r api.PauseRequest
			if long != "" {
				d, err := parseDays(long)
				if err != nil {
					return usageError{err}
				}
				r.For = d.Seconds()
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			info, err := c.Pause(cmd.Context(), r)
			if err != nil {
				return err
			}
			return a.answerPaused(info)
		},
	}
	cmd.Flags().StringVar(&long, "for", "", "for how long, for example 2h; without it until \"shoal resume\"")
	return cmd
}

func (a *app) resumeCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "work again after a pause",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			info, err := c.Resume(cmd.Context())
			if err != nil {
				return err
			}
			return a.answerPaused(info)
		},
	}
}

func (a *app) answerPaused(i api.Info) error {
	return a.answer(map[string]string{"paused": i.Paused}, func(w io.Writer) {
		if i.Paused == "" {
			fmt.Fprintln(w, "working")
		} else {
			fmt.Fprintln(w, "paused:", i.Paused)
		}
	})
}

func (a *app) limitsCmd() *cobra.Command {
	cmd := group("limits", "what the node may take of this machine")
	cmd.AddCommand(a.limitsShowCmd(), a.limitsSetCmd())
	return cmd
}

func (a *app) limitsShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "the limits in force",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			l, err := c.Limits(cmd.Context())
			if err != nil {
				return err
			}
			return a.answer(l, func(w io.Writer) { printLimits(w, l) })
		},
	}
}

func printLimits(w io.Writer, l map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(l)) {
		fmt.Fprintf(w, "%-14s %s\n", k, l[k])
	}
}

func (a *app) limitsSetCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set",
		Short: "change limits, now and for later starts; \"none\" lifts one",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			changes := map[string]string{}
			cmd.Flags().Visit(func(f *pflag.Flag) {
				if cmd.InheritedFlags().Lookup(f.Name) == nil {
					changes[strings.ReplaceAll(f.Name, "-", "_")] = f.Value.String()
				}
			})
			if len(changes) == 0 {
				return usagef("no limit given; see %s --help", cmd.CommandPath())
			}
			if _, err := (config.Limits{}).With(changes); err != nil {
				return usageError{err}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			l, err := c.SetLimits(cmd.Context(), changes)
			if err != nil {
				return err
			}
			if _, ok := changes["max_disk"]; ok {
				a.say("max_disk holds from the daemon's next start")
			}
			return a.answer(l, func(w io.Writer) { printLimits(w, l) })
		},
	}
	limitFlags(cmd.Flags())
	return cmd
}
