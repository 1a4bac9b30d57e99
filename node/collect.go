package node

import (
	"context"
	"time"

	"github.com/seed-7b27c88a/shoal/node/config"
)

// submitPins begins the names of pins that hold a submission's blocks until the job's own pin does.
const submitPins = "submit/"

// collect frees the blocks that nothing pins. It runs only while no job does: a job may be about to pin what it has
// just written.
func (n *Node) collect(ctx context.Context) {
	for _, t := range n.jobs.forgotten(time.Now()) {
		if err := n.unpin(ctx, jobPin(t.ID)); err != nil {
			n.log.Warn("unpin", "job", t.ID, "err", err)
		}
	}
	freed, err := n.store.GC(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		n.log.Warn("free unused blocks", "err", err)
	case freed.Blocks > 0:
		n.log.Info("freed unused blocks", "blocks", freed.Blocks, "bytes", config.Bytes(freed.Bytes))
	}
}

// dropTornSubmissions lets go of what submissions held that a crash cut short.
func (n *Node) dropTornSubmissions(ctx context.Context) error { return n.unpin(ctx, submitPins) }

// unpin drops all pins whose names begin with prefix.
func (n *Node) unpin(ctx context.Context, prefix string) error {
	pins, err := n.store.Pins(ctx, prefix)
	if err != nil {
		return err
	}
	last := ""
	for _, p := range pins { // ordered by name
		if p.Name == last {
			continue
		}
		last = p.Name
		if err := n.store.Unpin(ctx, p.Name); err != nil {
			return err
		}
	}
	return nil
}

// collectHourly collects from time to time, when no job runs.
func (n *Node) collectHourly(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, running := n.jobs.paused(); running == 0 {
				n.collect(ctx)
			}
		}
	}
}
