package p2p

import (
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"

	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

// LAN announces this node on the local network by multicast DNS, under the swarm's name, and calls found with the
// addresses of each node heard there; often the same ones again, and concurrently. found must be quick. stop ends it.
func (h *Host) LAN(found func(addrs []string)) (stop func(), err error) {
	n := &lanNotifee{h: h, found: found}
	s := mdns.NewMdnsService(h.host, h.lanName(), n)
	if err := s.Start(); err != nil {
		s.Close()
		return nil, fmt.Errorf("look for nodes on the local network: %w", err)
	}
	return sync.OnceFunc(func() { s.Close() }), nil
}

// LANInterfaces names the interfaces on which multicast can be heard, with their addresses; empty: there is none, as before a
// network is connected. When the text changes, LAN has to be started again to be heard there.
func LANInterfaces() string {
	all, err := net.Interfaces()
	if err != nil {
		return ""
	}
	var out []string
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagMulticast == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil || len(addrs) == 0 {
			continue
		}
		out = append(out, fmt.Sprint(i.Name, " ", i.Index, " ", addrs))
	}
	return strings.Join(out, "\n")
}

// lanName is what nodes of the swarm announce themselves under. That of a private swarm says nothing to strangers.
func (h *Host) lanName() string {
	name := h.cfg.Swarm
	if h.cfg.Door != nil {
		name = securityName(h.cfg.Door)[len("/shoal/"):][:32]
	}
	return "_" + swarm.Rendezvous(name) + "._udp"
}

type lanNotifee struct {
	h     *Host
	found func([]string)
}

// HandlePeerFound implements mdns.Notifee.
func (n *lanNotifee) HandlePeerFound(info peer.AddrInfo) {
	if !n.h.begin() {
		return
	}
	defer n.h.wg.Done()
	var addrs []string
	for _, a := range info.Addrs[:min(len(info.Addrs), 16)] {
		addrs = append(addrs, withID(a, info.ID))
	}
	n.found(addrs)
}
