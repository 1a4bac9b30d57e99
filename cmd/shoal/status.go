package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node/api"
)

func (a *app) statusCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "the node on one screen",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			info, err := c.Info(cmd.Context())
			if err != nil {
				return err
			}
			return a.answer(info, func(w io.Writer) { printInfo(w, info) })
		},
	}
}

func printInfo(w io.Writer, i api.Info) {
	row := func(k, format string, args ...any) { fmt.Fprintf(w, "%-10s %s\n", k, fmt.Sprintf(format, args...)) }
	row("id", "%s", i.ID)
	if i.Name != "" {
		row("name", "%s", i.Name)
	}
	row("addresses", "%s", strings.Join(i.Addresses, "\n           "))
	peers := plural(i.Peers, "peer")
	if i.Relayed > 0 {
		peers += fmt.Sprintf(", %d of them through relays", i.Relayed)
	}
	row("swarm", "%s, %s", i.Swarm, peers)
	if i.Reachability != nil {
		row("reachable", "%s", i.Reachability.Verdict)
	}
	row("device", "%s", device(i))
	row("jobs", "%d running", i.Jobs)
	if i.Paused != "" {
		row("paused", "%s", i.Paused)
	}
	row("api", "%s", i.API)
	row("home", "%s", i.Home)
	row("up", "%v, version %s", time.Duration(i.Uptime*float64(time.Second)).Round(time.Second), i.Version)
	for _, t := range i.Tried {
		if t.Error != "" {
			row("tried", "%s: %s", t.What, t.Error)
		}
	}
}

func device(i api.Info) string {
	d := i.Device
	if i.Hardware != "" {
		d += ": " + i.Hardware
	}
	if i.Kernel != "" {
		d += fmt.Sprintf(" (%s, %s)", i.Kernel, plural(i.Workers, "worker"))
	}
	return d
}
