//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
)

// order is what the lead tells a peer. One field is set.
type order struct {
	Connect []string // addresses
	Plan    *collective.Plan
	Cut     *cut
	Commit  *collective.Key
}

// cut ends the gathering of pieces and lets results go.
type cut struct {
	Key    collective.Key
	Set    []collective.Mark
	Totals collective.Totals
}

// event is what a peer tells the lead.
type event struct {
	ID    record.PeerID
	Addr  string // first
	Ready bool   // connected
	Have  *collective.Have
	Done  *done
}

type done struct {
	Key   collective.Key
	Units []collective.Hash
	CPU   time.Duration // of the process so far
	Error float64       // the largest of a sample of elements
	Sent  uint64        // bytes of bulk so far
}

// peer takes orders from standard input until it ends.
func peer(job cid.Cid, elements int) error {
	h, err := p2p.New(p2p.Config{Listen: []string{"/ip4/" + ownIP() + "/tcp/0"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer h.Close()
	x := xfer.Over(h, xfer.Config{})
	defer x.Close()
	var mu sync.Mutex // guards out
	out := json.NewEncoder(os.Stdout)
	tell := func(e event) {
		mu.Lock()
		defer mu.Unlock()
		e.ID = h.ID()
		out.Encode(e) // a lead that is gone ends standard input, too
	}
	self := collective.Member{ID: h.ID()} // which is new with each start
	var g *collective.Group
	g, err = collective.NewExchange(x).Join(job, self, collective.Events{
		Have: func(have collective.Have) { tell(event{Have: &have}) },
		Done: func(d collective.Done) {
			tell(event{Done: &done{Key: d.Key, Units: d.Units, CPU: cpuTime(), Error: worstError(d.V), Sent: h.Traffic()["xfer"].Up}})
			g.Recycle(d.V)
		},
	})
	if err != nil {
		return err
	}
	defer g.Close()
	tell(event{Addr: h.Addrs()[0]})
	v := vector(elements)
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var o order
		if in.Decode(&o) != nil {
			return nil
		}
		switch {
		case o.Connect != nil:
			for _, a := range o.Connect {
				if err := h.Connect(context.Background(), a); err != nil {
					return err
				}
			}
			tell(event{Ready: true})
		case o.Plan != nil:
			g.Plan(o.Plan)
			for _, id := range o.Plan.Pieces {
				if id.Member == self.ID && id.Attempt == o.Plan.Attempt {
					g.Local(collective.Mark{PieceID: id, Weight: 1}, v)
				}
			}
		case o.Cut != nil:
			g.Cut(o.Cut.Key, o.Cut.Set)
			g.Release(o.Cut.Key, o.Cut.Totals)
		case o.Commit != nil:
			g.Commit(*o.Commit)
		}
	}
}

// ownIP is where a peer listens: on a laboratory network, its node's address.
func ownIP() string {
	if ip := os.Getenv("NETLAB_IP"); ip != "" {
		return ip
	}
	return "127.0.0.1"
}

// vector is numbers between -1 and 1, the same for everybody: so the mean is known.
func vector(elements int) []float32 {
	v := make([]float32, elements)
	for i := range v {
		v[i] = want(i)
	}
	return v
}

func want(i int) float32 { return float32((i*7919)%20001-10000) / 10000 }

// worstError looks at every 1,009th element: the time that it takes is part of the round.
func worstError(v []float32) (worst float64) {
	for i := 0; i < len(v); i += 1009 {
		d := float64(v[i]) - float64(want(i))
		worst = max(worst, d, -d)
	}
	return worst
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
