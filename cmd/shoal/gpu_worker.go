package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node"
)

// gpuWorkerCmd is what a daemon starts to keep a GPU in a process of its own. It serves on standard input and output.
func (a *app) gpuWorkerCmd() *cobra.Command {
	return &cobra.Command{
		Use:    node.WorkerVerb + " number",
		Short:  "serve a GPU to the daemon that starts this",
		Hidden: true,
		Args:   usage(cobra.ExactArgs(1)),
		RunE:   func(_ *cobra.Command, args []string) error { return node.ServeWorker(args[0], os.Stdin, a.out) },
	}
}
