package node

import (
	"fmt"
	"strings"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/p2p"
)

// reachability is what others' ways to this node are, for the API; nil when the node does not deal with the internet.
func (n *Node) reachability() *api.Reachability {
	r, ok := n.host.Reachability()
	if !ok {
		return nil
	}
	out := &api.Reachability{State: "unknown", Forced: r.Forced, NAT: string(r.NAT), Seen: r.Seen, Carries: r.Carries, DHT: "client",
		Table: r.Table, Rejected: r.Rejected, Verdict: verdict(r)}
	if r.Reach != p2p.ReachAuto {
		out.State = string(r.Reach)
	}
	if r.Server {
		out.DHT = "server"
	}
	for _, id := range r.Relays {
		out.Relays = append(out.Relays, string(id))
	}
	return out
}

// verdict says in one line whether others reach this node, and how.
func verdict(r p2p.Reachability) string {
	how := "tested"
	if r.Forced {
		how = "as configured"
	} else if !r.Tested {
		how = "not tested yet"
	}
	switch {
	case r.Reach == p2p.ReachPublic && r.Carries:
		return "direct (" + how + "); carries connections of others"
	case r.Reach == p2p.ReachPublic:
		return "direct (" + how + ")"
	case r.Reach == p2p.ReachAuto && len(r.Seen) == 0:
		return "on the local network; not met the internet yet"
	case r.Reach == p2p.ReachAuto:
		return "not tested yet"
	}
	nat := map[p2p.NAT]string{
		p2p.NATCone:      "behind a NAT that lets holes be punched",
		p2p.NATSymmetric: "behind a symmetric NAT: no direct way to other nodes behind NATs",
		p2p.NATNone:      "behind a firewall",
		p2p.NATUnknown:   "behind a NAT",
	}[r.NAT]
	if len(r.Relays) == 0 {
		return "no: " + nat + ", and no relay found yet; it still trains with nodes that it reaches"
	}
	relays := "relays"
	if len(r.Relays) == 1 {
		relays = "relay"
	}
	return fmt.Sprintf("through %d %s; %s", len(r.Relays), relays, nat)
}

// reachCheck is the doctor's line about it.
func (n *Node) reachCheck() api.Check {
	c := api.Check{Name: "reachable", Part: partNet, OK: true}
	r, ok := n.host.Reachability()
	if !ok {
		c.Detail = "internet: false in the configuration; only this network and the bootstrap list are used"
		return c
	}
	c.Detail = verdict(r)
	if len(r.Seen) > 0 {
		c.Detail += "; peers see " + strings.Join(r.Seen, ", ")
	}
	if r.Reach == p2p.ReachPrivate && !r.Forced {
		c.Detail += "; to be reached directly, forward port " + n.port() + " (TCP and UDP) on the router to this machine, or switch on UPnP there"
	}
	if c.OK = r.Reach != p2p.ReachPrivate || len(r.Relays) > 0; !c.OK {
		c.Fix = "forward the port, or let some reachable node of the swarm run with --relay on (the default): this node finds it through the DHT"
	}
	return c
}
