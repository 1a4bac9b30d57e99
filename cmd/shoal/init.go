package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node"
)

func (a *app) initCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "make a home: identity, API token, commented configuration",
		Args:  usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			home, err := a.home()
			if err != nil {
				return err
			}
			id, err := node.Init(home)
			if err != nil {
				return err
			}
			return a.answer(map[string]string{"id": string(id), "home": home}, func(w io.Writer) { fmt.Fprintln(w, id) })
		},
	}
}
