package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
	"github.com/seed-7b27c88a/shoal/node/metrics"
	"github.com/seed-7b27c88a/shoal/node/web"
	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/discovery"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/store"
)

func (n *Node) openStore(ctx context.Context) error {
	s, err := openStore(n.cfg)
	if err != nil {
		return err
	}
	n.onClose(s.Close)
	n.store = s
	n.lib = newLibrary(s, n.cfg.Home)
	return n.tellLost(ctx)
}

// ErrBusy says that another process has the home's store open.
var ErrBusy = errors.New("another shoal runs")

// HasStore tells that the home has a store.
func HasStore(cfg config.Config) bool {
	_, err := os.Stat(filepath.Join(cfg.Home, storeDir))
	return err == nil
}

// HubDir is where downloads from the hub lie.
func HubDir(cfg config.Config) string { return filepath.Join(cfg.Home, hubDir) }

func openStore(cfg config.Config) (*store.Store, error) {
	s, err := store.Open(filepath.Join(cfg.Home, storeDir), store.Options{Quota: int64(cfg.MaxDisk)})
	if errors.Is(err, store.ErrLocked) {
		return nil, fmt.Errorf("%w in %s; stop it or choose another --home", ErrBusy, cfg.Home)
	}
	return s, err
}

func (n *Node) openHost(context.Context) error {
	taken, err := checkListen(n.cfg.Listen)
	if err != nil {
		return err
	}
	if n.taken = taken; len(taken) > 0 {
		n.log.Warn("another program uses a port; peers are not accepted there", "listen", taken)
	}
	net, err := internet(n.cfg.Network)
	if err != nil {
		return err
	}
	private, err := n.openMembership()
	if err != nil {
		return err
	}
	want, low, high := dose(n.cfg.Profile)
	cfg := p2p.Config{
		Swarm:    n.cfg.Swarm,
		KeyFile:  filepath.Join(n.cfg.Home, identityFile),
		Listen:   n.cfg.Listen,
		Internet: net,
		LowConns: low, HighConns: high, Caps: caps(n.cfg.Limits),
		Log: n.log,
	}
	if private != nil {
		cfg.Door = private
	}
	host, err := p2p.New(cfg)
	if err != nil {
		return err
	}
	n.onClose(host.Close)
	n.host = host
	if err := n.serveMembership(private); err != nil {
		return err
	}
	n.finder, err = discovery.Start(host, discovery.Config{
		Bootstrap: n.bootstrap(private),
		LAN:       n.cfg.MDNS,
		Cache:     peerCache{n.lib.t, cacheKey(private)},
		Want:      want,
		Log:       n.log,
	})
	if err == nil {
		n.onClose(func() error { n.finder.Close(); return nil })
	}
	return err
}

// peerCache keeps good peers between starts.
type peerCache struct {
	t   *table
	key string
}

func (c peerCache) Load() (peers []discovery.Peer, err error) {
	_, err = c.t.get(c.key, &peers)
	return peers, err
}

func (c peerCache) Save(peers []discovery.Peer) error { return c.t.write(put(c.key, peers)) }

// openAPI listens, and tells other processes of this home where.
func (n *Node) openAPI(context.Context) error {
	token, err := loadToken(n.cfg.Home)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", n.cfg.APIAddr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("API: another program uses %s (a second shoal?); choose another --api-addr, or port 0 for a free one", n.cfg.APIAddr)
	} else if err != nil {
		return fmt.Errorf("API: %w; choose another --api-addr, or port 0 for a free one", err)
	}
	n.listener = l
	s := &api.Server{Node: n, Swarm: n, Library: n.lib, Jobs: jobAPI{n.jobs, n}, Checkpoints: jobAPI{n.jobs, n}, Web: web.Handler(), Metrics: metrics.Handler(n), Token: token, Remote: !api.Loopback(l.Addr())}
	n.server = s.HTTP()
	n.onClose(n.server.Close)
	path := filepath.Join(n.cfg.Home, api.AddrFile)
	n.onClose(func() error { return removeIf(path, l.Addr().String()) })
	return replace(path, []byte(dialable(l.Addr())+"\n"), 0o600)
}

// dialable is where this machine reaches a listener, also one that listens on all addresses.
func dialable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return a.String()
}

// removeIf removes a file that still says what this process wrote.
func removeIf(path, text string) error {
	data, err := os.ReadFile(path)
	if err == nil && string(data) == text+"\n" {
		err = os.Remove(path)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Run serves until ctx ends, then stops everything within ShutdownTime.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.server.BaseContext = func(net.Listener) context.Context { return ctx } // ends event streams
	stopped, err := n.work(ctx)
	if err != nil {
		return errors.Join(err, n.close())
	}
	served := make(chan error, 1)
	go func() { served <- n.server.Serve(n.listener) }() // callers so far wait in the listener's queue
	select {
	case <-ctx.Done():
		n.log.Info("stopping")
	case err = <-served:
		err = fmt.Errorf("API: %w", err)
		cancel()
	case <-n.store.Failed():
		if err = n.store.Err(); !errors.Is(err, shard.ErrCorrupt) { // that says what to do
			err = fmt.Errorf("the store in %s cannot go on: %w; check the disk and start again", n.cfg.Home, err)
		}
		cancel()
	}
	return errors.Join(err, n.shutdown(context.WithoutCancel(ctx), stopped))
}

// shutdown lets jobs leave and closes everything. What does not end in time is left to the process's end: everything
// acknowledged is on disk.
func (n *Node) shutdown(ctx context.Context, stopped func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, ShutdownTime-time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- errors.Join(stopped(ctx), n.close()) }()
	select {
	case err := <-done:
		return err
	case <-time.After(ShutdownTime - 100*time.Millisecond):
		return errors.New("some parts did not stop in time and were cut off")
	}
}
