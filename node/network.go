package node

import (
	"context"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/config"
	"github.com/seed-7b27c88a/shoal/p2p"
)

// internet is what the network room is asked for; nil: addresses from the configuration and the local network only.
func internet(c config.Network) (*p2p.Internet, error) {
	if !c.Internet {
		return nil, nil
	}
	reach, err := p2p.ParseReach(c.Reachability)
	return &p2p.Internet{Reach: reach, Announce: c.Announce, NoRelay: c.Relay == "off", Small: c.Profile == config.LowPower}, err
}

// dose is how many connections a profile keeps: wanted, and the marks of the connection manager. Home routers suffer
// from hundreds.
func dose(profile string) (want, low, high int) {
	switch profile {
	case config.LowPower:
		return 6, 8, 16
	case config.Server:
		return 24, 256, 512
	}
	return 24, 32, 64
}

// seekEvery is how often the jobs that are looked for are compared with those that run.
const seekEvery = 2 * time.Second

// seekMembers keeps this node in the DHT as a member of each of its jobs, and looks there for the others, until ctx
// ends. So members find each other also when everybody who introduced them is gone.
func (n *Node) seekMembers(ctx context.Context) {
	seeks := map[cid.Cid]func(){}
	tick := time.NewTicker(seekEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := map[cid.Cid]bool{}
		for _, t := range n.jobs.active() {
			now[t.ID] = true
			if seeks[t.ID] == nil {
				seeks[t.ID] = n.finder.Seek(t.ID)
			}
		}
		for id, stop := range seeks {
			if !now[id] {
				stop()
				delete(seeks, id)
			}
		}
	}
}
