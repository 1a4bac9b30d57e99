// Command shoal is the door to a node: it runs the daemon, talks to it, and trains, generates and evaluates in this
// process. Each verb has a file. Answers go to standard output and nothing else does; progress and notes go to
// standard error. Exit status: 0 ok, 1 failed, 2 wrong usage, 3 no daemon.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node/api"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process: tests call it in their own.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{out: stdout, err: stderr, env: os.Getenv}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(stderr, "shoal:", message(ctx, err))
	}
	return status(err)
}

func status(err error) int {
	switch _, usage := errors.AsType[usageError](err); {
	case err == nil:
		return 0
	case usage:
		return 2
	case errors.Is(err, api.ErrDown):
		return 3
	}
	return 1
}

func message(ctx context.Context, err error) string {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		text := strings.ReplaceAll(err.Error(), context.Canceled.Error(), "interrupted")
		return strings.TrimPrefix(text, "shoal: ")
	}
	if errors.Is(err, api.ErrDown) {
		return err.Error() + "; start one with \"shoal daemon\""
	}
	return strings.TrimPrefix(err.Error(), "shoal: ")
}

// usageError is a wrong command line.
type usageError struct{ error }

func usagef(format string, a ...any) error { return usageError{fmt.Errorf(format, a...)} }

// usage turns cobra's complaints about arguments into usage errors that say where help is.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usagef("%w; see %s --help", err, cmd.CommandPath())
		}
		return nil
	}
}

func (a *app) root() *cobra.Command {
	root := group("shoal", "fine-tune language models on machines that people lend each other")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	})
	f := root.PersistentFlags()
	f.StringVar(&a.homeFlag, "home", "", "directory of the node (default $SHOAL_HOME or ~/.shoal)")
	f.StringVar(&a.apiFlag, "api", "", "address of the daemon's API (default: what $SHOAL_HOME/api says)")
	f.BoolVar(&a.json, "json", false, "print JSON for programs: one object, or one per line for lists")
	root.AddCommand(
		a.initCmd(), a.daemonCmd(), a.statusCmd(), a.peersCmd(), a.swarmCmd(), a.pauseCmd(), a.resumeCmd(), a.limitsCmd(), a.modelCmd(), a.dataCmd(), a.planCmd(), a.trainCmd(), a.jobCmd(),
		a.exportCmd(), a.generateCmd(), a.evalCmd(), a.demoCmd(), a.simCmd(), a.versionCmd(), a.doctorCmd(), a.benchCmd(), a.gpuWorkerCmd(),
	)
	return root
}

// group makes a command that only holds others.
func group(use, short string) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args: usage(func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q%s", args[0], nearest(cmd, args[0]))
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

func nearest(cmd *cobra.Command, arg string) string {
	cmd.SuggestionsMinimumDistance = 2
	if s := cmd.SuggestionsFor(arg); len(s) > 0 {
		return fmt.Sprintf(" (did you mean %q?)", s[0])
	}
	return ""
}
