package main

import (
	"io"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node/sim"
)

// simCmd runs a swarm in virtual time.
func (a *app) simCmd() *cobra.Command {
	var cfg sim.Config
	var picture string
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "a swarm of thousands in virtual time, with members that come and go",
		Long: "Runs the real agreement and reduction of a job among simulated members on home connections, and checks the\n" +
			"invariants after every event. The same seed gives the same run.",
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, f := range []string{"nodes", "for", "round", "bytes", "chunks", "rows"} { // to the simulator 0 is the default
				if v := cmd.Flags().Lookup(f).Value.String(); v == "0" || v == "0s" {
					return usagef("--%s 0: want more; leave it out for the default", f)
				}
			}
			debug.SetGCPercent(400) // thousands of machines are little to hold and much to look through
			r, err := sim.New(cfg)
			if err != nil {
				return usageError{err}
			}
			res, err := r.Go(cmd.Context(), func(done time.Duration, rounds int) {
				a.say("%s of %s, %s", done.Round(time.Second), cfg.For, plural(rounds, "round"))
			})
			if picture != "" {
				if err := writePicture(picture, res.SVG); err != nil {
					return err
				}
			}
			if err != nil {
				return err
			}
			return a.answer(res, func(w io.Writer) { res.Print(w) })
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&cfg.Seed, "seed", 1, "of everything that is left to chance")
	f.IntVar(&cfg.Nodes, "nodes", 30, "members at any time")
	f.DurationVar(&cfg.For, "for", 30*time.Minute, "virtual time")
	f.DurationVar(&cfg.Round, "round", 30*time.Second, "time in which a middling member does its work of a round")
	f.Float64Var(&cfg.Churn, "churn", 0.1, "part of the members that goes per minute, and is replaced")
	f.Float64Var(&cfg.Clean, "clean", 0.3, "part of those that says good-bye")
	f.IntVar(&cfg.Bytes, "bytes", 1<<20, "size of the vector that is added up")
	f.IntVar(&cfg.Chunks, "chunks", 16, "that it is cut into, each with an owner")
	f.IntVar(&cfg.Rows, "rows", 8, "positions per member and round")
	f.IntVar(&cfg.Inner, "inner", 0, "diloco: optimizer steps that a member takes by itself in a round; 0: allreduce")
	f.DurationVar(&cfg.Partition, "partition", 0, "every so often a fifth of the members is cut off for a minute")
	f.BoolVar(&cfg.Perfect, "perfect", false, "fast connections and members of one speed in place of a mixture of homes")
	f.StringVar(&picture, "svg", "", "file for a picture of the run")
	return cmd
}
