package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/p2p/record"
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
		idle:   n.collect,
		sign: func(t task.Task, order uint64) (*record.Signed, error) {
			return task.SignOrder(t, order, n.host.Boot(), n.host.Key())
		},
	}
	n.lib.busy = func() bool { _, running := n.jobs.paused(); return running > 0 }
	var err error
	if n.limits, err = newLimits(n); err != nil {
		return err
	}
	if n.cfg.MaxCPU != 0 {
		runtime.GOMAXPROCS(share(n.limits.cpus, n.cfg.MaxCPU))
	}
	n.jobs.hold(n.limits.why())
	n.offers = &offers{host: n.host, jobs: n.jobs, log: n.log, may: n.maySubmit, proof: n.proof}
	return nil
}

// work resumes jobs and takes offers until ctx ends. The returned function waits, until its own context ends, for
// jobs to leave.
func (n *Node) work(ctx context.Context) (stopped func(context.Context) error, err error) {
	if err := n.dropTornSubmissions(ctx); err != nil {
		return nil, err
	}
	if err := n.jobs.load(ctx); err != nil {
		return nil, err
	}
	n.jobs.resume(n.collect)
	stop, err := n.offers.listen()
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { n.offers.repeat(ctx) })
	wg.Go(func() { n.limits.run(ctx) })
	wg.Go(func() { n.collectHourly(ctx) })
	wg.Go(func() { n.seekMembers(ctx) })
	if n.members != nil {
		wg.Go(func() { n.members.Run(ctx) })
	}
	return func(grace context.Context) error {
		stop()
		wg.Wait()
		return n.jobs.wait(grace)
	}, nil
}
