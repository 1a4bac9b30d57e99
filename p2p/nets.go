package p2p

import (
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// bridgePrefixes are the names of interfaces that lead to containers and virtual machines on this very machine. Nobody else
// reaches their addresses, and every machine with the same software has the same ones: whoever dials them meets itself.
var bridgePrefixes = []string{"docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "cni", "flannel", "cali", "lxc", "lxd", "podman", "kube"}

// nets knows the interfaces of this machine; it looks again after a while.
type nets struct {
	mu   sync.Mutex // guards the rest
	at   time.Time
	ips  map[string]bool // of rejected interfaces
	list []string        // their names with an address
}

const netsEvery = 10 * time.Second

// rejected are the IP addresses that are not told to others.
func (n *nets) rejected() map[string]bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.look()
	return n.ips
}

// names lists the interfaces that are not told to others, for a person.
func (n *nets) names() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.look()
	return slices.Clone(n.list)
}

// look reads the interfaces. The caller holds mu.
func (n *nets) look() {
	if time.Since(n.at) < netsEvery && !n.at.IsZero() {
		return
	}
	n.at = time.Now()
	var all []iface
	ifs, err := net.Interfaces()
	if err != nil {
		return
	}
	for _, i := range ifs {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		f := iface{name: i.Name}
		for _, a := range addrs {
			if p, ok := a.(*net.IPNet); ok {
				f.ips = append(f.ips, p.IP.String())
			}
		}
		all = append(all, f)
	}
	n.ips, n.list = rejectBridges(all)
}

type iface struct {
	name string
	ips  []string
}

// rejectBridges picks the interfaces of bridges, unless nothing else is there: inside a container even a veth is the way out.
func rejectBridges(all []iface) (ips map[string]bool, names []string) {
	ips = map[string]bool{}
	other := false
	for _, i := range all {
		if len(i.ips) == 0 {
			continue
		}
		if !isBridge(i.name) {
			other = true
			continue
		}
		names = append(names, i.name+" "+i.ips[0])
		for _, ip := range i.ips {
			ips[ip] = true
		}
	}
	if !other {
		return map[string]bool{}, nil
	}
	return ips, names
}

func isBridge(name string) bool {
	for _, p := range bridgePrefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
