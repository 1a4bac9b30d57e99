package main

import (
	"context"
	"fmt"
	"io"

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
	rm := a.itemRmCmd("rm NAME", "forget a stored model", api.Library.RemoveModel)
	cmd.AddCommand(take, ls, rm, a.modelShowCmd(), a.modelConvertCmd())
	return cmd
}

// itemRmCmd forgets a model or data.
func (a *app) itemRmCmd(use, short string, remove func(api.Library, context.Context, string) (api.Removed, error)) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   use,
		Short: short + "; jobs that use it keep it until they are over",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				if ok, err := a.confirm("remove %s?", args[0]); err != nil || !ok {
					return err
				}
			}
			return a.withLibrary(cmd.Context(), func(l api.Library) error {
				r, err := remove(l, cmd.Context(), args[0])
				return a.answerRemoved(r, r.Name, err)
			})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// answerRemoved says what became of something that is forgotten.
func (a *app) answerRemoved(r api.Removed, what string, err error) error {
	if err != nil {
		return err
	}
	return a.answer(r, func(w io.Writer) {
		freed := config.Bytes(r.Freed).String() + " freed"
		if r.Later {
			freed = "its blocks are freed when no job runs any more"
		}
		fmt.Fprintf(w, "%s removed, %s\n", what, freed)
	})
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
