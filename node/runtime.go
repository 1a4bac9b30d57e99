package node

import (
	"context"
	"path/filepath"

	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/node/worker"
	"github.com/seed-7b27c88a/shoal/p2p/blocks"
	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/pipe"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
)

// openRuntime starts what moves blocks and tensors, and what runs jobs over them.
func (n *Node) openRuntime(ctx context.Context) error {
	if n.runtime != nil { // a test brought its own
		return nil
	}
	ex := blocks.New(n.host, n.store, nil)
	n.onClose(func() error { ex.Close(); return nil })
	if err := ex.Resume(ctx, filepath.Join(n.cfg.Home, "incoming")); err != nil {
		n.log.Warn("blocks that a stop interrupts will be fetched from their beginning", "err", err)
	}
	x := xfer.Over(n.host, xfer.Config{})
	n.onClose(func() error { x.Close(); return nil })
	w := worker.New(worker.Deps{
		Host: n.host, Blocks: ex, Groups: collective.NewExchange(x), Vectors: worker.NewVectors(x), Pipes: pipe.NewExchange(x), Store: n.store, Device: n.dev, Scratch: filepath.Join(n.cfg.Home, "scratch"), Log: n.log,
	})
	n.onClose(func() error { w.Close(); return nil })
	n.runtime = w
	return nil
}

var _ task.Runtime = (*worker.Runtime)(nil)
