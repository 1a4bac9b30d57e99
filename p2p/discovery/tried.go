package discovery

import (
	"cmp"
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Try is one line of what was tried to find peers, for a person.
type Try struct {
	Source Source
	Peer   record.PeerID // empty for the local network or the DHT as such
	Addrs  []string
	Up     bool
	Tries  int           // dials so far
	Ago    time.Duration // since the latest dial
	Next   time.Duration // until the next dial; 0: now, or none planned
	Err    string        // why the latest dial failed, and what to do
}

// helloGrace is how soon after connecting a node of the swarm has greeted.
const helloGrace = 5 * time.Second

// Tried reports what was tried and why it failed: bootstraps first, connected peers last.
func (d *Discovery) Tried() []Try {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	var out []Try
	if d.lan != "" {
		out = append(out, Try{Source: FromLAN, Err: d.lan})
	}
	if d.dht != "" && d.book.up == 0 {
		out = append(out, Try{Source: FromDHT, Err: d.dht})
	}
	for _, e := range d.book.entries {
		t := Try{Source: e.source, Peer: e.id, Addrs: slices.Clone(e.addrs), Up: e.up, Tries: e.tries, Err: e.err}
		if e.tries > 0 {
			t.Ago = now - e.last
		}
		if !e.up && !e.dialing {
			t.Next = max(0, e.next-now)
		}
		if e.tries > 0 && e.err == "" && !e.up && (e.tries > 1 || !e.dialing && t.Ago > helloGrace) {
			t.Err = "connected, but it is not in this swarm or does not admit this node"
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Try) int {
		return cmp.Or(cmpBool(a.Up, b.Up), -cmpBool(a.Source == FromBootstrap, b.Source == FromBootstrap), cmp.Compare(a.Peer, b.Peer))
	})
	return out
}
