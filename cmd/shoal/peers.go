package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node/api"
)

func (a *app) peersCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "peers",
		Short: "connected nodes",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			peers, err := c.Peers(cmd.Context())
			if err != nil {
				return err
			}
			return list(a, peers, "PEER\tLATENCY\tPATH\tDIRECTION\tADDRESS", func(p api.Peer) string {
				return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", p.ID, latency(p.Latency), p.Path, p.Direction, strings.Join(p.Addresses[:min(1, len(p.Addresses))], ""))
			})
		},
	}
}

func latency(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return time.Duration(seconds * float64(time.Second)).Round(10 * time.Microsecond).String()
}
