// Package swarm says which nodes belong together: the name of a swarm and the names derived from it, who may
// connect (Gate), and whether one identity runs on two machines (Clones).
//
// A private swarm has a root key, whose peer ID is the swarm's id. It signs memberships (Chain): peer, role, 90 days;
// an admin's signs further ones. A Token carries a signed invite to somebody outside, whom the node that issued it
// admits, counting the uses. A Tombstone voids a membership and whatever that admitted. A node's Membership shows its
// own, judges those of others and keeps the Roll of whom it knows; Guest is a node that comes with an invite.
//
// Everything here is data and rules: no socket, file or goroutine, and the clock is the caller's. What a host asks
// while it connects (a Gate, Membership, Guest, Roll) is safe for concurrent use; Clones is not, its owner guards it.
package swarm

import (
	"fmt"
	"strings"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// DefaultName is the swarm a node joins when its owner names none.
const DefaultName = "public"

// maxName keeps a swarm's mDNS service label ("_shoal-<name>._udp") well within the 63 bytes of RFC 1035.
const maxName = 32

// CheckName refuses names that cannot stand in a DNS label and in a topic.
func CheckName(name string) error {
	if name == "" || len(name) > maxName || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" ||
		name[0] == '-' || name[len(name)-1] == '-' {
		return fmt.Errorf("swarm name %q: use 1 to %d of a-z, 0-9 and inner hyphens", name, maxName)
	}
	return nil
}

// Rendezvous is what nodes of the swarm look for each other under, on a LAN.
func Rendezvous(name string) string { return "shoal-" + name }

// Topic is the swarm's gossip topic for what, for example "offers".
func Topic(name, what string) string { return TopicPrefix(name) + what }

// TopicPrefix is common to all gossip topics of the swarm.
func TopicPrefix(name string) string { return "/shoal/" + name + "/" }

// Gate decides who may be connected. It is asked for every connection in both directions, once the peer has proved
// that it holds the key of id, and before anything it says is read. A refusal's text is for our own log.
type Gate interface {
	Admit(id record.PeerID) error
}

// Open admits everybody whose identity is an Ed25519 key.
type Open struct{}

// Admit implements Gate.
func (Open) Admit(id record.PeerID) error {
	_, err := record.PublicKey(id)
	return err
}
