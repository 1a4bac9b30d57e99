package discovery

import (
	"context"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p"
)

// look is how often the schedule is looked at; an operation takes up to half a minute anyway.
const look = time.Second

// Seek makes this node a provider of key in the DHT, usually a job that it works on, and looks for the other providers,
// to whom it then stays connected, also when enough other peers are there. Without a DHT it does nothing.
func (d *Discovery) Seek(key cid.Cid) (stop func()) {
	if d.h.Routing() == nil {
		return func() {}
	}
	d.mu.Lock()
	ok := d.plan.add(key, true, true, true, d.now())
	d.mu.Unlock()
	if !ok {
		d.cfg.Log.Warn("too many jobs to look for their members in the DHT", "job", key)
	}
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.plan.drop(key)
	})
}

// meet tells the DHT of this node and searches it until ctx ends, one operation at a time.
func (d *Discovery) meet(ctx context.Context) {
	name := d.h.Swarm()
	d.mu.Lock()
	d.plan.add(p2p.RendezvousKey(name, "swarm"), true, true, false, d.now())
	d.mu.Unlock()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.h.AddrsChanged():
			d.moved()
		case <-tick.C:
		}
		d.carry(name)
		for o, ok := d.dueOp(); ok && ctx.Err() == nil; o, ok = d.dueOp() {
			d.perform(ctx, o)
		}
	}
}

// moved tells the DHT and the connected peers of this node's new addresses.
func (d *Discovery) moved() {
	self := toldPeer{ID: d.h.ID(), Addrs: d.h.Addrs()}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.plan.moved(d.now())
	for _, p := range d.connected() {
		d.tell(p.ID, []toldPeer{self})
	}
}

// carry offers this node as a relay while it is one.
func (d *Discovery) carry(name string) {
	r, ok := d.h.Reachability()
	if !ok {
		return
	}
	key := p2p.RendezvousKey(name, "relay")
	d.mu.Lock()
	defer d.mu.Unlock()
	switch known := d.plan.keys[key] != nil; {
	case r.Carries && !known:
		d.plan.add(key, true, false, false, d.now())
	case !r.Carries && known:
		d.plan.drop(key)
	}
}

func (d *Discovery) dueOp() (op, bool) {
	r, ok := d.h.Reachability()
	dialable := ok && (r.Reach != p2p.ReachPrivate || len(r.Relays) > 0)
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.plan.next(d.now(), dialable, d.book.up < d.book.want)
}

func (d *Discovery) perform(ctx context.Context, o op) {
	var err error
	if o.provide {
		err = d.h.Routing().Provide(ctx, o.key)
	} else {
		d.mu.Lock()
		r := d.plan.keys[o.key]
		d.mu.Unlock()
		err = d.h.Routing().Find(ctx, o.key, func(addrs []string) {
			d.post(ctx, func() { d.found(r != nil && r.always, addrs) })
		})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.plan.done(o, err != nil, d.now())
	if d.dht = ""; err != nil {
		d.dht = err.Error()
	}
}

// found enters a node that the DHT named. needed: connect to it even if enough others are there. The caller holds mu.
func (d *Discovery) found(needed bool, addrs []string) {
	d.add(FromDHT, "", addrs)
	if id, err := p2p.SplitAddr(addrs[0]); err == nil && needed {
		d.book.need(id)
	}
}
