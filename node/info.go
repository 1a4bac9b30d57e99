package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/seed-7b27c88a/shoal/node/api"
)

// Info implements api.Node.
func (n *Node) Info(context.Context) (api.Info, error) {
	dev := n.dev.Info()
	paused, running := n.jobs.paused()
	i := api.Info{
		ID: string(n.host.ID()), Name: n.cfg.Name, Version: Version(), Addresses: n.host.Addrs(), Swarm: n.cfg.Swarm,
		Device: dev.Name, Hardware: dev.Model, Kernel: dev.Kernel, Workers: dev.Workers,
		API: dialable(n.listener.Addr()), Home: n.cfg.Home, Uptime: time.Since(n.start).Seconds(),
		Jobs: running, Paused: paused, Tried: n.tried(), Reachability: n.reachability(),
	}
	for _, c := range n.netChecks() {
		if !c.OK && c.Name != checkNetwork { // Tried says that
			i.Problems = append(i.Problems, c)
		}
	}
	for _, p := range n.host.Peers() {
		if p.Up {
			i.Peers++
			if p.Relayed {
				i.Relayed++
			}
		}
	}
	return i, nil
}

func (n *Node) tried() []api.Tried {
	var out []api.Tried
	for _, t := range n.finder.Tried() {
		what := string(t.Source)
		if len(t.Addrs) > 0 {
			what += " " + telling(t.Addrs)
		}
		v := api.Tried{What: what, Error: t.Err}
		if t.Err != "" {
			v.Fix = remedy(t.Err)
		}
		if t.Err != "" && t.Tries > 1 {
			v.Error += fmt.Sprintf(" (tried %d times, next in %v)", t.Tries, t.Next.Round(time.Second))
		}
		out = append(out, v)
	}
	return out
}

// telling is the address by which a person knows a node: not one of its own machine.
func telling(addrs []string) string {
	for _, a := range addrs {
		if !strings.HasPrefix(a, "/ip4/127.") && !strings.HasPrefix(a, "/ip6/::1/") {
			return a
		}
	}
	return addrs[0]
}

// Peers implements api.Node.
func (n *Node) Peers(context.Context) ([]api.Peer, error) {
	out := []api.Peer{}
	for _, p := range n.host.Peers() {
		if !p.Up {
			continue
		}
		v := api.Peer{ID: string(p.ID), Addresses: p.Addrs, Latency: p.Latency.Seconds(), Path: "direct", Direction: "outbound"}
		if p.Relayed {
			v.Path = "relayed"
		}
		if p.Inbound {
			v.Direction = "inbound"
		}
		out = append(out, v)
	}
	return out, nil
}

// Doctor implements api.Node.
func (n *Node) Doctor(ctx context.Context) ([]api.Check, error) {
	checks := []api.Check{{Name: "daemon", OK: true, Detail: fmt.Sprintf("version %s, up %v", Version(), time.Since(n.start).Round(time.Second))}}
	checks = append(checks, n.cfgChecks()...)
	return append(checks, n.netChecks()...), ctx.Err()
}

func (n *Node) cfgChecks() []api.Check {
	checks := []api.Check{
		checkHome(n.cfg), checkIdentity(n.cfg), checkToken(n.cfg),
		checkLibrary(n.lib, api.Check{Name: "store", Detail: "open in this daemon"}), checkDisk(n.cfg),
		{Name: "device", Part: partGPU, OK: true, Detail: deviceLine(n.dev.Info())},
	}
	return append(checks, gpuChecks(n.cfg.Device)...)
}
