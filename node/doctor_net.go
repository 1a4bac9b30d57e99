package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
	"github.com/seed-7b27c88a/shoal/p2p/discovery"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// checkNetwork is the check whose findings Tried lists one by one.
const checkNetwork = "network"

// partNet marks the checks that "shoal doctor net" shows.
const partNet = "net"

// maxSkew is how far the clocks of two machines may be apart; invites and memberships expire by the clock.
const maxSkew = 30 * time.Second

// netChecks is the network's part of a running node's report.
func (n *Node) netChecks() []api.Check {
	return []api.Check{n.networkCheck(), n.portCheck(), n.memberCheck(), n.reachCheck(), n.dhtCheck(), n.clockCheck(), n.cloneCheck(), n.interfaceCheck()}
}

func (n *Node) networkCheck() api.Check {
	c := api.Check{Name: checkNetwork, Part: partNet, OK: true}
	peers, _ := n.Peers(context.Background())
	c.Detail = fmt.Sprintf("connected to %d, listening on %s", len(peers), strings.Join(n.host.Addrs(), " "))
	if relayed := countRelayed(peers); relayed > 0 {
		c.Detail += fmt.Sprintf("; %d of them through relays", relayed)
	}
	if len(peers) > 0 {
		return c
	}
	c.OK = len(n.cfg.Bootstrap) == 0
	var fixes []string
	for _, t := range n.tried() {
		if t.Error == "" {
			continue
		}
		c.Detail += "; tried " + t.What + ": " + t.Error
		if t.What == string(discovery.FromDHT) && len(n.cfg.Bootstrap) > 0 {
			continue // it follows from the others
		}
		if fix := t.Fix; !slices.Contains(fixes, fix) {
			fixes = append(fixes, fix)
		}
	}
	if !c.OK {
		c.Fix = cmp.Or(strings.Join(fixes[:min(len(fixes), 3)], "; "), "wait a moment: the first dials are under way") + "; the node goes on trying"
	}
	return c
}

// portCheck tells which of the addresses that were asked for are another program's.
func (n *Node) portCheck() api.Check {
	c := api.Check{Name: "port", Part: partNet, OK: len(n.taken) == 0, Detail: "peers are accepted on all addresses that were asked for"}
	if !c.OK {
		c.Detail = "another program uses " + strings.Join(n.taken, " and ") + "; peers are not accepted there"
		c.Fix = "stop that program (a second shoal?) and start the daemon again, or choose another port with --listen"
	}
	return c
}

// memberCheck is about this node's place in a private swarm.
func (n *Node) memberCheck() api.Check {
	c := api.Check{Name: "swarm", Part: partNet, OK: true, Detail: n.cfg.Swarm + ", open to everybody"}
	if n.members == nil {
		return c
	}
	v, err := n.Swarm(context.Background())
	switch {
	case err != nil:
		c.OK, c.Detail, c.Fix = false, err.Error(), "restore the home's directory swarms/"+n.cfg.Swarm+", or join again with a new invite"
	case v.Problem != "":
		c.OK, c.Detail = false, "this node is no longer a member of "+v.Name+": "+v.Problem
		c.Fix = "ask an admin for a new invite and \"shoal swarm join\" with it, then start the daemon again; or \"shoal swarm leave " + v.Name + "\""
	default:
		c.Detail = fmt.Sprintf("%s, as %s until %s, then renewed; %d members known", v.Name, v.Role, v.Until.Format(time.DateOnly), v.Members)
	}
	return c
}

func countRelayed(peers []api.Peer) (n int) {
	for _, p := range peers {
		if p.Path == "relayed" {
			n++
		}
	}
	return n
}

// remedy is what to do about a dial error; it knows the texts of the system and of libp2p.
func remedy(why string) string {
	for _, r := range []struct{ part, fix string }{
		{"connection ended", "nothing yet: it is dialed again at once"},
		{"no longer a member", "ask an admin of the swarm for a new invite, then \"shoal swarm join\""},
		{"refused", "start the node at that address, or correct the port"},
		{"no route to host", "check this machine's network connection and the address"},
		{"network is unreachable", "check this machine's network connection"},
		{"no such host", "correct the name in the bootstrap address, or check DNS"},
		{"identity changed", "replace the id after /p2p/ by the one that \"shoal status\" shows there"},
		{"own identity", "take this node's own address out of its bootstrap list"},
		{"not in this swarm", "give both nodes the same --swarm, or ask for an invite"},
		{"gate", "ask a member of the swarm for an invite"},
		{"deadline exceeded", "a firewall may drop the packets, or that machine is off: open TCP and UDP of the port there"},
		{"timeout", "a firewall may drop the packets, or that machine is off: open TCP and UDP of the port there"},
		{"dial to self", "take this machine's own addresses out of that list, or wait: the peer's other addresses are not known yet"},
		{"no supported interface", "connect this machine to a network; it is searched as soon as it is there"},
		{"no node of the DHT", "give a bootstrap address with --bootstrap, or run a second node on the local network"},
	} {
		if strings.Contains(why, r.part) {
			return r.fix
		}
	}
	return "check that a bootstrap node runs, that its address and id are right, and that no firewall is between"
}

func (n *Node) dhtCheck() api.Check {
	c := api.Check{Name: "dht", Part: partNet, OK: true, Detail: "not used"}
	if r := n.reachability(); r != nil {
		c.Detail = fmt.Sprintf("%s, %d nodes in its table", r.DHT, r.Table)
	}
	return c
}

func (n *Node) clockCheck() api.Check {
	c := api.Check{Name: "clock", Part: partNet, OK: true, Detail: "no peer to compare it with"}
	ahead, peers := n.host.ClockSkew()
	if peers == 0 {
		return c
	}
	c.Detail = fmt.Sprintf("within %v of the median of %d peers", max(ahead, -ahead).Round(time.Second)+time.Second, peers)
	if c.OK = ahead.Abs() <= maxSkew; !c.OK {
		side := "behind"
		if ahead < 0 {
			side = "ahead of"
		}
		c.Detail = fmt.Sprintf("this machine is %v %s the median of %d peers; invites and memberships expire by the clock", ahead.Abs().Round(time.Second), side, peers)
		c.Fix = "let the system set its clock (NTP)"
	}
	return c
}

func (n *Node) cloneCheck() api.Check {
	c := api.Check{Name: "clones", Part: partNet, OK: true, Detail: "no identity is used twice"}
	clones := n.host.Clones()
	slices.SortFunc(clones, cmp.Compare[record.PeerID])
	for _, id := range clones {
		if id == n.host.ID() {
			c.OK, c.Detail = false, "another running node has this node's identity: this home was copied"
			c.Fix = "stop one of them, remove the file " + identityFile + " in its home, and run \"shoal init\" there"
			return c
		}
	}
	if len(clones) > 0 {
		c.OK, c.Detail = false, fmt.Sprintf("two machines use one identity: %v", clones)
		c.Fix = "tell their owner to give one of them a new home; this node is not concerned"
	}
	return c
}

func (n *Node) interfaceCheck() api.Check {
	c := api.Check{Name: "interfaces", Part: partNet, OK: true, Detail: "all are told to others"}
	if r := n.reachability(); r != nil && len(r.Rejected) > 0 {
		c.Detail = "not told to others, because they lead to containers on this machine: " + strings.Join(r.Rejected, ", ") + " (--announce overrides)"
	}
	return c
}

// port is where peers are accepted, for advice.
func (n *Node) port() string { return listenPort(n.cfg) }

func listenPort(cfg config.Config) string {
	for _, a := range cfg.Listen {
		if parts := strings.Split(a, "/"); len(parts) > 4 && parts[4] != "0" {
			return parts[4]
		}
	}
	return "of --listen (choose a fixed one)"
}

// checkPeerPort tries the port that the daemon would listen on.
func checkPeerPort(cfg config.Config) api.Check {
	c := api.Check{Name: "port", Part: partNet, OK: true, Detail: strings.Join(cfg.Listen, " ") + ": free"}
	taken, err := checkListen(cfg.Listen)
	switch {
	case err != nil:
		c.OK, c.Detail, c.Fix = false, err.Error(), "listen on an address of this machine"
	case len(taken) > 0:
		c.OK, c.Detail = false, "another program uses "+strings.Join(taken, " and ")
		c.Fix = "stop what listens there, or choose another port with --listen"
	}
	return c
}
