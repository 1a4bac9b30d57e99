package config

import (
	"fmt"
	"strings"
)

// Profiles of how much of a machine's network a node uses.
const (
	Volunteer = "volunteer" // the default: 32 to 64 connections, a relay for others while reachable
	Server    = "server"    // for bootstraps and relays with a good link: 256 to 512 connections
	LowPower  = "lowpower"  // for weak routers and metered lines: 8 to 16 connections, asks the DHT and serves it not, no relay
)

// Network is how a node deals with the internet.
type Network struct {
	Internet     bool     `yaml:"internet"`     // find nodes through the DHT, open ports, use relays; off for a laboratory
	Announce     []string `yaml:"announce"`     // multiaddrs to tell others in place of the public ones found here
	Reachability string   `yaml:"reachability"` // auto: tested; public, private: the owner knows
	Relay        string   `yaml:"relay"`        // on: carry others' connections while reachable; off
	Profile      string   `yaml:"profile"`      // volunteer, server, lowpower
}

// DefaultNetwork is a volunteer's.
func DefaultNetwork() Network {
	return Network{Internet: true, Reachability: "auto", Relay: "on", Profile: Volunteer}
}

func (n *Network) validate() error {
	for _, a := range n.Announce {
		if !strings.HasPrefix(a, "/") || strings.Contains(a, "/p2p/") {
			return fmt.Errorf("announce: %q: want a multiaddr without /p2p/, for example /ip4/1.2.3.4/tcp/4481 or /dns4/example.org/tcp/4481", a)
		}
	}
	switch {
	case len(n.Announce) > 16:
		return fmt.Errorf("announce: %d addresses, at most 16", len(n.Announce))
	case n.Reachability != "auto" && n.Reachability != "public" && n.Reachability != "private":
		return fmt.Errorf("reachability %q: want auto, public or private", n.Reachability)
	case n.Relay != "on" && n.Relay != "off":
		return fmt.Errorf("relay %q: want on or off", n.Relay)
	case n.Profile != Volunteer && n.Profile != Server && n.Profile != LowPower:
		return fmt.Errorf("profile %q: want %s, %s or %s", n.Profile, Volunteer, Server, LowPower)
	case len(n.Announce) > 0 && n.Reachability == "private":
		return fmt.Errorf("announce contradicts reachability: private; drop one of them")
	}
	return nil
}
