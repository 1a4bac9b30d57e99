package discovery

import (
	"context"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p"
)

// lanCheck is how often the interfaces of this machine are looked at.
const lanCheck = 5 * time.Second

// searchLAN searches the local network until ctx ends, anew whenever this machine's interfaces change: a cable is plugged in, a
// laptop wakes up in another network, the daemon was there before the network.
func (d *Discovery) searchLAN(ctx context.Context) {
	tick := time.NewTicker(lanCheck)
	defer tick.Stop()
	stop := func() {}
	defer func() { stop() }()
	on, ok := "", false
	for {
		if now := p2p.LANInterfaces(); !ok || now != on {
			stop()
			stop, ok = d.startLAN(ctx)
			on = now
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// startLAN notes, for Tried, why the local network is not searched.
func (d *Discovery) startLAN(ctx context.Context) (stop func(), ok bool) {
	stop, err := d.h.LAN(func(addrs []string) {
		d.post(ctx, func() { d.add(FromLAN, "", addrs) })
	})
	why := ""
	if err != nil {
		stop, why = func() {}, err.Error()
		d.cfg.Log.Debug("the local network is not searched", "why", err)
	}
	d.mu.Lock()
	d.lan = why
	d.mu.Unlock()
	return stop, err == nil
}
