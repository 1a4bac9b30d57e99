package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/seed-7b27c88a/shoal/node/task"
)

// openJobs makes the table; work fills it.
func (n *Node) openJobs(context.Context) error {
	tmp := filepath.Join(n.cfg.Home, "tmp")
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o700)); err != nil {
		return fmt.Errorf("temporary files: %w", err)
	}
	n.jobs = &jobs{
		t: n.lib.t, log: n.log, runtime: n.runtime, tmp: tmp,
		policy: policy{maxJobs: n.cfg.MaxJobs, maxMemory: uint64(n.cfg.MaxMemory)},
		drop:   func(t task.Task) { n.dropBlocks(t) },
	}
	n.offers = &offers{host: n.host, jobs: n.jobs, log: n.log}
	return nil
}

// work resumes jobs and takes offers until ctx ends. The returned function waits, until its own context ends, for
// jobs to leave.
func (n *Node) work(ctx context.Context) (stopped func(context.Context) error, err error) {
	if err := n.jobs.load(ctx); err != nil {
		return nil, err
	}
	stop, err := n.offers.listen()
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { n.offers.repeat(ctx) })
	return func(grace context.Context) error {
		stop()
		wg.Wait()
		return n.jobs.wait(grace)
	}, nil
}

// dropBlocks lets go of a job's blocks when it is over here; those of own jobs stay, for export.
func (n *Node) dropBlocks(t task.Task) {
	if t.Mine {
		return
	}
	if err := n.store.Unpin(context.Background(), jobPin(t.ID)); err != nil {
		n.log.Warn("unpin", "job", t.ID, "err", err)
	}
}
