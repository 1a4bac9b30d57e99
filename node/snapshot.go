package node

import (
	"context"
	"time"

	"github.com/seed-7b27c88a/shoal/node/metrics"
)

// Snapshot implements metrics.Source.
func (n *Node) Snapshot() metrics.Snapshot {
	why, _ := n.jobs.paused()
	up, down := n.host.Wire()
	s := metrics.Snapshot{
		Version: Version(), Uptime: time.Since(n.start), Kinds: map[string]metrics.Moved{},
		Wire: metrics.Moved{Up: up, Down: down}, Paused: why, ControlDrops: n.host.Control().Dropped(),
	}
	for _, p := range n.host.Peers() {
		if p.Up {
			s.Peers = append(s.Peers, metrics.Peer{ID: string(p.ID), Latency: p.Latency, Relayed: p.Relayed})
		}
	}
	for kind, m := range n.host.Traffic() {
		s.Kinds[kind] = metrics.Moved(m)
	}
	if js, err := n.jobs.Jobs(context.Background()); err == nil {
		for _, j := range js {
			s.Jobs = append(s.Jobs, metrics.Job{Name: j.Name, ID: j.ID, State: j.State, Step: j.Step, Loss: j.Loss, Peers: j.Peers})
		}
	}
	s.StoreBytes = n.store.Stats().Used
	if l, ok := n.log.Handler().(*LogLimit); ok {
		s.LogDropped = l.Dropped()
	}
	return s
}
