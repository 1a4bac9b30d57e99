package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-7b27c88a/shoal/node"
	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
)

func (a *app) doctorCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor [net|gpu]",
		Short: "check home, device, network and daemon, and say how to fix what is wrong",
		Long:  "Checks home, device, network and daemon, and says how to fix what is wrong. \"doctor net\" checks the network alone, \"doctor gpu\" the device.",
		Args:  usage(cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs)), ValidArgs: []string{"net", "gpu"},
		RunE: func(cmd *cobra.Command, part []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			checks, err := c.Doctor(cmd.Context())
			if errors.Is(err, api.ErrDown) {
				checks, err = a.doctor(cmd.Context())
			}
			if err != nil {
				return err
			}
			if len(part) > 0 {
				checks = slices.DeleteFunc(checks, func(c api.Check) bool { return c.Part != part[0] })
			}
			return a.diagnosis(checks)
		},
	}
}

// doctor checks without a daemon. A configuration that cannot be used is a finding too: the rest is then checked with
// the defaults.
func (a *app) doctor(ctx context.Context) ([]api.Check, error) {
	cfg, bad := a.config(pflag.NewFlagSet("", pflag.ContinueOnError))
	check := api.Check{Name: "config", OK: true, Detail: "can be used"}
	if bad != nil {
		home, err := a.home()
		if err != nil {
			return nil, err
		}
		check = api.Check{Name: "config", Detail: bad.Error(), Fix: "mend what it names; \"shoal init\" in a new home writes a commented " + config.File}
		cfg = config.Default()
		cfg.Home = home
	}
	return append([]api.Check{check}, node.Doctor(ctx, cfg)...), nil
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
