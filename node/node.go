// Package node is the daemon: it opens a home's store, device, network and API, keeps the table of jobs, and hands
// jobs to a runtime. It joins the rooms below it and holds no algorithm of theirs.
//
// A Node is made by Open, which returns when everything listens, and works in Run until its context ends; then jobs
// hand over, tables are flushed, and Run returns within ShutdownTime. Its methods are safe for concurrent use.
package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/node/config"
	"github.com/seed-7b27c88a/shoal/node/membership"
	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/discovery"
	"github.com/seed-7b27c88a/shoal/shard/store"
)

// ShutdownTime is how long a node takes to stop at most.
const ShutdownTime = 5 * time.Second

// Node is a running daemon.
type Node struct {
	cfg   config.Config
	log   *slog.Logger
	start time.Time

	store   *store.Store
	dev     kernels.Device
	host    *p2p.Host
	members *membership.Service // of a private swarm; nil: the swarm is open
	runtime task.Runtime
	finder  *discovery.Discovery
	lib     *Library
	jobs    *jobs
	offers  *offers
	limits  *limits

	taken []string // addresses of cfg.Listen that another program has

	listener net.Listener
	server   *http.Server

	closers []func() error // run last to first
}

// Open starts the parts of a node, innermost first. On an error what was started is closed again.
func Open(ctx context.Context, cfg config.Config, log *slog.Logger) (*Node, error) {
	return open(ctx, cfg, log, nil)
}

// open is Open with a runtime that a test brings; nil: the real one.
func open(ctx context.Context, cfg config.Config, log *slog.Logger, r task.Runtime) (*Node, error) {
	if _, err := Init(cfg.Home); err != nil {
		return nil, err
	}
	if free, err := diskFree(cfg.Home); err == nil {
		warnDisk(log, cfg.Home, free)
	}
	n := &Node{cfg: cfg, log: log, start: time.Now(), runtime: r}
	for _, step := range []func(context.Context) error{n.openStore, n.openDevice, n.openHost, n.openRuntime, n.openJobs, n.openAPI} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, n.close())
		}
	}
	return n, nil
}

func (n *Node) onClose(f func() error) { n.closers = append(n.closers, f) }

// close undoes Open.
func (n *Node) close() error {
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i]())
	}
	n.closers = nil
	return errors.Join(errs...)
}
