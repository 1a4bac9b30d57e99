package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-7b27c88a/shoal/node"
	"github.com/seed-7b27c88a/shoal/node/config"
)

func (a *app) daemonCmd() *cobra.Command {
	var level slog.Level
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "run the node until it is told to stop",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.config(cmd.Flags())
			if err != nil {
				return err
			}
			log := slog.New(node.NewLogLimit(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level})))
			d, err := node.Open(cmd.Context(), cfg, log)
			if err != nil {
				return err
			}
			info, err := d.Info(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "id %s\naddresses %s\ndevice %s\napi http://%s\n", info.ID, strings.Join(info.Addresses, " "), device(info), info.API)
			return d.Run(cmd.Context())
		},
	}
	daemonFlags(cmd.Flags())
	cmd.Flags().TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	return cmd
}

// daemonFlags are the settings of the configuration file as flags; what is not given does not override it.
func daemonFlags(f *pflag.FlagSet) {
	f.String("name", "", "what others see beside the peer ID")
	f.String("api-addr", "", "host:port of the local API; port 0 picks a free one")
	f.StringArray("listen", nil, "multiaddr to accept peers on; port 0 picks a free one; may repeat")
	f.StringArray("bootstrap", nil, "multiaddr of a peer to start from, with /p2p/<id>; may repeat")
	f.Bool("mdns", true, "find peers on the local network")
	f.Bool("no-mdns", false, "the same as --mdns=false")
	f.String("swarm", "", "name of the swarm")
	f.Bool("internet", true, "find nodes through the internet: DHT, open ports, relays; false for a laboratory")
	f.StringArray("announce", nil, "multiaddr to tell others in place of the public ones found here; may repeat")
	f.String("reachability", "", "auto (it is tested), public or private")
	f.String("relay", "", "on: carry others' connections while this node is reachable; off")
	f.String("profile", "", "volunteer; server for bootstraps; lowpower for weak routers and metered lines")
	f.String("device", "", "auto, cpu, cpu:generic, cuda:0, or several GPUs, as cuda:0,1")
	limitFlags(f)
}

// limitFlags are those of "shoal limits set", too.
func limitFlags(f *pflag.FlagSet) {
	f.String("max-up", "", "bandwidth to send with at most, for example 10Mbit")
	f.String("max-down", "", "bandwidth to receive with at most")
	f.String("max-cpu", "", "share of the processors, for example 50%")
	f.String("max-jobs", "", "jobs of others at the same time")
	f.String("max-memory", "", "refuse jobs that need more, for example 8GiB")
	f.String("max-disk", "", "quota of stored blocks")
	f.String("max-gpu-memory", "", "memory of each GPU to use at most, for example 16GiB")
	f.String("max-gpu-power", "", "watts that a GPU may draw, for example 250")
	f.String("max-gpu-temp", "", "degrees Celsius that a GPU may have, for example 80")
	f.String("schedule", "", "when the node works, for example 22:00-07:00")
}

func (a *app) config(f *pflag.FlagSet) (config.Config, error) {
	home, err := a.home()
	if err != nil {
		return config.Config{}, err
	}
	given := map[string][]string{}
	f.Visit(func(f *pflag.Flag) {
		key := strings.ReplaceAll(f.Name, "-", "_")
		if v, ok := f.Value.(pflag.SliceValue); ok {
			given[key] = v.GetSlice()
		} else {
			given[key] = []string{f.Value.String()}
		}
	})
	if off, ok := given["no_mdns"]; ok && off[0] == "true" {
		given["mdns"] = []string{"false"}
	}
	cfg, err := config.Load(home, a.env, given)
	if err != nil {
		return cfg, usageError{err}
	}
	return cfg, nil
}
