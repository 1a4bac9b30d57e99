package main

import (
	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node/api"
)

func (a *app) dataCmd() *cobra.Command {
	cmd := group("data", "training rows")
	cmd.AddCommand(a.dataAddCmd(), a.dataShowCmd(), a.dataLsCmd(),
		a.itemRmCmd("rm NAME", "forget stored rows", api.Library.RemoveDataset))
	return cmd
}

func (a *app) dataAddCmd() *cobra.Command {
	var name, kind string
	cmd := &cobra.Command{
		Use:   "add FILE…",
		Short: "take files of rows into the node's store after checking every row",
		Args:  usage(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name != "" && len(args) > 1 {
				return usagef("--name names one dataset, %d files are given", len(args))
			}
			return a.withLibrary(cmd.Context(), func(l api.Library) error {
				var items []api.Item
				for _, file := range args {
					item, err := l.AddDataset(cmd.Context(), api.ImportRequest{Path: absolute(file), Name: name, Type: kind}, a.progress(0).long)
					if err != nil {
						return err
					}
					items = append(items, item)
				}
				return a.items(items, nil)
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name in the store (default: the file's)")
	cmd.Flags().StringVar(&kind, "type", "", "messages, sharegpt, alpaca, completion, text or tokens (default: detected by the rows' keys)")
	return cmd
}

func (a *app) dataLsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "stored data",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withLibrary(cmd.Context(), func(l api.Library) error {
				items, err := l.Datasets(cmd.Context())
				return a.items(items, err)
			})
		},
	}
}
