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
	for _, c := range i.Problems {
		row("problem", "%s: %s", c.Name, shortIDs(c.Detail))
		row("", "try: %s", c.Fix)
	}
	printTried(w, i)
}

// maxTried is how many failed attempts are listed; the first are the ones that a person configured.
const maxTried = 5

// printTried says what failed while nobody is there. Once a peer is up, only what a person configured is of interest.
func printTried(w io.Writer, i api.Info) {
	said, left, fix := 0, 0, ""
	for _, t := range i.Tried {
		switch {
		case t.Error == "" || i.Peers > 0 && !strings.HasPrefix(t.What, "bootstrap"):
		case said == maxTried:
			left++
		default:
			if t.Fix != fix && fix != "" {
				fmt.Fprintf(w, "%-10s try: %s\n", "", fix)
			}
			fmt.Fprintf(w, "%-10s %s: %s\n", "tried", withoutID(t.What), shortIDs(t.Error))
			said, fix = said+1, t.Fix
		}
	}
	if fix != "" {
		fmt.Fprintf(w, "%-10s try: %s\n", "", fix)
	}
	if left > 0 {
		fmt.Fprintf(w, "%-10s and %d more; \"shoal --json status\" lists all\n", "", left)
	}
}

// withoutID shortens the peer ID at the end of an address.
func withoutID(what string) string {
	addr, id, ok := strings.Cut(what, "/p2p/")
	if !ok {
		return what
	}
	return addr + " (" + short(id) + ")"
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
