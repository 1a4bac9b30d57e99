// Package discovery finds the other nodes of the swarm and stays connected to enough of them.
//
// Addresses come from the owner's bootstrap list, from multicast DNS on the local network, from a cache of earlier
// peers, from connected peers, who tell each other of those they are connected to and of their own new addresses
// (control topic "discovery/peers"), and from the DHT, where nodes provide the swarm and the jobs they work on. Nothing that fails is fatal: the node is up with no peers, goes on trying with growing pauses of at most a
// minute, and Tried says what was tried and why it failed.
//
// The decisions are a plain state machine (book); one goroutine owns it, and a few more dial. Everything that others tell is
// bounded, and only a successful handshake with the expected key makes an address count.
package discovery

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Peer is a node and where it was reached.
type Peer struct {
	ID    record.PeerID `json:"id"`
	Addrs []string      `json:"addrs"` // multiaddrs ending in /p2p/<ID>
}

// Cache keeps good peers between starts. Save gets at most 64 peers, at most once a minute and at the end; it is
// called by one goroutine at a time.
type Cache interface {
	Load() ([]Peer, error)
	Save([]Peer) error
}

// Config says where to look.
type Config struct {
	Bootstrap []string     // multiaddrs ending in /p2p/<id>
	LAN       bool         // look on the local network
	Cache     Cache        // nil: none
	Want      int          // dial while fewer peers are up; default 32
	Log       *slog.Logger // default slog.Default()
}

// Discovery looks for peers until Close.
type Discovery struct {
	h      *p2p.Host
	cfg    Config
	start  time.Time
	cancel context.CancelFunc
	wg     sync.WaitGroup
	events chan func() // run by loop with mu held

	mu    sync.Mutex // guards the rest
	book  *book
	plan  schedule
	dht   string // why the latest use of the DHT failed; empty: it did not
	lan   string // why the local network is not searched; empty: it is
	saved []Peer
}

const (
	topic     = "discovery/peers"
	saveEvery = time.Minute
	maxTold   = 64 // peers in one message, and in the cache
)

// Start begins to look for peers of h's swarm. It fails only when an address in cfg is malformed.
func Start(h *p2p.Host, cfg Config) (*Discovery, error) {
	cfg.Want = cmp.Or(cfg.Want, 32)
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	d := &Discovery{h: h, cfg: cfg, start: time.Now(), events: make(chan func(), 256), book: newBook(h.ID(), cfg.Want),
		plan: schedule{self: string(h.ID()), keys: map[cid.Cid]*rendezvous{}}}
	for _, a := range cfg.Bootstrap {
		id, err := p2p.SplitAddr(a)
		if err != nil {
			return nil, fmt.Errorf("bootstrap %w", err)
		}
		d.book.found(FromBootstrap, "", id, []string{a}, 0)
	}
	d.loadCache()
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	d.wg.Go(func() { d.loop(ctx) })
	if h.Routing() != nil {
		d.wg.Go(func() { d.meet(ctx) })
	}
	return d, nil
}

func (d *Discovery) loadCache() {
	if d.cfg.Cache == nil {
		return
	}
	peers, err := d.cfg.Cache.Load()
	if err != nil {
		d.cfg.Log.Warn("the list of earlier peers cannot be read; going on without it", "why", err)
		return
	}
	for _, p := range peers[:min(len(peers), maxTold)] {
		d.book.found(FromCache, "", p.ID, own(p.ID, p.Addrs), 0)
	}
	d.saved = peers
}

// Close stops looking, saves the cache, and waits.
func (d *Discovery) Close() {
	d.cancel()
	d.wg.Wait()
}

// loop owns the book: it takes events, dials what is due, sleeps until the next is.
func (d *Discovery) loop(ctx context.Context) {
	defer d.listen(ctx)()
	timer := time.NewTimer(0)
	save := time.NewTicker(saveEvery)
	defer func() { timer.Stop(); save.Stop(); d.save() }()
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-d.events:
			d.mu.Lock()
			f()
			d.mu.Unlock()
		case <-save.C:
			d.save()
		case <-timer.C:
		}
		timer.Reset(d.dialDue(ctx))
	}
}

// listen subscribes to everything that tells of peers.
func (d *Discovery) listen(ctx context.Context) (stop func()) {
	unhandle := d.h.Control().Handle(topic, func(from record.PeerID, b []byte) { d.told(ctx, from, b) })
	unwatch := d.h.Watch(func(id record.PeerID, up bool) { d.changed(ctx, id, up) })
	if d.cfg.LAN {
		d.wg.Go(func() { d.searchLAN(ctx) })
	}
	return func() { unwatch(); unhandle() }
}

// post hands an event to the loop.
func (d *Discovery) post(ctx context.Context, f func()) {
	select {
	case d.events <- f:
	case <-ctx.Done():
	}
}

// add enters addresses that may be of several peers. The caller holds mu.
func (d *Discovery) add(src Source, teller record.PeerID, addrs []string) {
	for _, a := range addrs {
		if id, err := p2p.SplitAddr(a); err == nil {
			d.book.found(src, teller, id, []string{a}, d.now())
		}
	}
}

func (d *Discovery) now() time.Duration { return time.Since(d.start) }

func (d *Discovery) changed(ctx context.Context, id record.PeerID, up bool) {
	known := d.h.Known(id)
	d.post(ctx, func() {
		if up {
			d.book.connected(id, known)
			d.introduce(id)
			d.refresh()
		} else if d.book.lost(id, d.now()); d.book.up == 0 {
			d.plan.alone(d.now())
		}
	})
}

// refresh fills the DHT's routing table from the first peers, instead of at its next turn minutes later. The caller
// holds mu.
func (d *Discovery) refresh() {
	if r := d.h.Routing(); r != nil && d.book.up <= 4 {
		r.Refresh()
	}
}

// dialDue starts the dials that are due and returns when to look again.
func (d *Discovery) dialDue(ctx context.Context) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.book.due(d.now()) {
		id, addrs := e.id, slices.Clone(e.addrs)
		d.wg.Go(func() { d.dial(ctx, id, addrs) })
	}
	return d.book.next(d.now())
}

func (d *Discovery) dial(ctx context.Context, id record.PeerID, addrs []string) {
	for _, a := range addrs {
		d.h.Learn(a) // checked when it was added
	}
	why := ""
	if err := d.h.Dial(ctx, id); err != nil {
		why = err.Error()
		d.cfg.Log.Debug("dial", "peer", id, "why", err)
	}
	d.post(ctx, func() { d.book.dialed(id, why, d.now()) })
}

// save writes the connected peers to the cache, unless nothing changed or nobody is there.
func (d *Discovery) save() {
	d.mu.Lock()
	peers := d.connected()
	d.mu.Unlock()
	if d.cfg.Cache == nil || len(peers) == 0 || slices.EqualFunc(peers, d.saved, samePeer) {
		return
	}
	if err := d.cfg.Cache.Save(peers); err != nil {
		d.cfg.Log.Warn("the list of peers cannot be saved", "why", err)
		return
	}
	d.saved = peers
}

func samePeer(a, b Peer) bool { return a.ID == b.ID && slices.Equal(a.Addrs, b.Addrs) }

// Up lists the peers that are up and can be dialed, at most 64.
func (d *Discovery) Up() []Peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.connected()
}

// connected lists peers that are up and can be dialed, ordered by ID. The caller holds mu.
func (d *Discovery) connected() []Peer {
	var out []Peer
	for _, e := range d.book.entries {
		if e.up && len(e.addrs) > 0 {
			out = append(out, Peer{ID: e.id, Addrs: slices.Clone(e.addrs)})
		}
	}
	slices.SortFunc(out, func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	return out[:min(len(out), maxTold)]
}
