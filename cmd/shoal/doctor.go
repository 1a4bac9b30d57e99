package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node"
	"github.com/seed-7b27c88a/shoal/node/api"
)

func (a *app) doctorCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "check home, device, network and daemon, and say how to fix what is wrong",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			checks, err := c.Doctor(cmd.Context())
			if errors.Is(err, api.ErrDown) {
				cfg, e := a.config(cmd.Flags())
				if e != nil {
					return e
				}
				checks, err = node.Doctor(cmd.Context(), cfg), nil
			}
			if err != nil {
				return err
			}
			return a.diagnosis(checks)
		},
	}
}

func (a *app) diagnosis(checks []api.Check) error {
	bad := 0
	for _, c := range checks {
		if !c.OK {
			bad++
		}
	}
	err := a.answer(checks, func(w io.Writer) {
		for _, c := range checks {
			mark := "ok  "
			if !c.OK {
				mark = "BAD "
			}
			fmt.Fprintf(w, "%s %-10s %s\n", mark, c.Name, c.Detail)
			if !c.OK && c.Fix != "" {
				fmt.Fprintf(w, "%15s try: %s\n", "", c.Fix)
			}
		}
	})
	if err == nil && bad > 0 {
		err = fmt.Errorf("%s failed", plural(bad, "check"))
	}
	return err
}
