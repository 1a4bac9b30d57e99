package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
)

func (a *app) modelCmd() *cobra.Command {
	cmd := group("model", "models: in the node's store, and changes to them")
	var name string
	take := &cobra.Command{
		Use:   "import DIR|hf:owner/name[@rev]",
		Short: "take in a Hugging Face directory; prints its name and CID",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withLibrary(cmd.Context(), func(l api.Library) error {
				item, err := l.ImportModel(cmd.Context(), api.ImportRequest{Path: absolute(args[0]), Name: name}, a.progress(0).long)
				return a.item(item, err)
			})
		},
	}
	take.Flags().StringVar(&name, "name", "", "name in the store (default: the directory's)")
	ls := &cobra.Command{
		Use:   "ls",
		Short: "stored models",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withLibrary(cmd.Context(), func(l api.Library) error {
				items, err := l.Models(cmd.Context())
				return a.items(items, err)
			})
		},
	}
	cmd.AddCommand(take, ls, a.modelShowCmd(), a.modelConvertCmd())
	return cmd
}

func (a *app) item(i api.Item, err error) error {
	if err != nil {
		return err
	}
	return a.items([]api.Item{i}, nil)
}

func (a *app) items(items []api.Item, err error) error {
	if err != nil {
		return err
	}
	for _, i := range items {
		if i.Replaced != "" {
			a.say("%s replaced what had this name before (%s); --name keeps both", i.Name, short(i.Replaced))
		}
	}
	return list(a, items, "NAME\tSIZE\tDETAIL\tCID", func(i api.Item) string {
		return fmt.Sprintf("%s\t%v\t%s\t%s", i.Name, config.Bytes(i.Bytes), i.Detail, i.CID)
	})
}
