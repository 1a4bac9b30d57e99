package node

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cuda"
	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
	"github.com/seed-7b27c88a/shoal/p2p"
)

// limits is what the owner lets this node take, and whether it works now. It is safe for concurrent use.
type limits struct {
	n    *Node
	cpus int              // processors of the machine, or what it was started with
	now  func() time.Time // wall clock: schedules are people's
	poke chan struct{}    // something changed; one pending signal

	mu     sync.Mutex // guards the rest
	set    config.Limits
	paused pausedBy
}

// pausedBy is the owner's word to pause, as it lies in the table.
type pausedBy struct {
	On    bool      `json:"on"`
	Until time.Time `json:"until,omitzero"` // zero: until resume
}

const pauseKey = "node/pause"

// pauseCheck is how often the clock is looked at.
const pauseCheck = 5 * time.Second

func newLimits(n *Node) (*limits, error) {
	l := &limits{n: n, cpus: runtime.GOMAXPROCS(0), now: time.Now, poke: make(chan struct{}, 1), set: n.cfg.Limits}
	_, err := n.lib.t.get(pauseKey, &l.paused)
	return l, err
}

// caps are the limits of the network.
func caps(l config.Limits) p2p.Caps { return p2p.Caps{Up: int64(l.MaxUp), Down: int64(l.MaxDown)} }

// apply puts limits in force. The caller holds mu.
func (l *limits) apply(set config.Limits) error {
	if err := l.n.host.SetCaps(caps(set)); err != nil {
		return err
	}
	if l.set.MaxCPU != set.MaxCPU {
		runtime.GOMAXPROCS(share(l.cpus, set.MaxCPU))
	}
	spare(l.n.dev, set)
	if d, ok := l.n.dev.(interface{ Limit(c cuda.Caps) error }); ok {
		if err := d.Limit(gpuCaps(set)); err != nil {
			return err
		}
	}
	l.set = set
	l.n.jobs.allow(policy{maxJobs: set.MaxJobs, maxMemory: uint64(set.MaxMemory)})
	l.signal()
	return nil
}

// spare keeps the device from holding weights in a second form where memory is limited: what jobs say they need does not
// count it. A limit that is lifted lets it do so again after a restart.
func spare(dev kernels.Device, l config.Limits) {
	if l.MaxMemory > 0 {
		kernels.PackCache(dev, 0)
	}
}

// share is how many of n processors p per cent are, at least one.
func share(n int, p config.Percent) int {
	if p == 0 {
		return n
	}
	return max(1, (n*int(p)+99)/100)
}

func (l *limits) signal() {
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

// run holds jobs back and lets them go as owner and clock say, until ctx ends.
func (l *limits) run(ctx context.Context) {
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		l.n.jobs.hold(l.why())
		l.mu.Lock()
		heap(l.n.dev, l.set)
		l.mu.Unlock()
		tick.Reset(l.nap())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-l.poke:
		}
	}
}

// nap is how long to wait before the clock is looked at again: a pause ends when it was to end.
func (l *limits) nap() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.paused.On || l.paused.Until.IsZero() {
		return pauseCheck
	}
	return min(pauseCheck, max(l.paused.Until.Sub(l.now())+time.Millisecond, time.Millisecond))
}

// why is the reason not to work now; empty: there is none.
func (l *limits) why() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if l.paused.On && !l.paused.Until.IsZero() && now.After(l.paused.Until) {
		l.paused = pausedBy{}
	}
	switch {
	case l.paused.On && l.paused.Until.IsZero():
		return "by the owner; \"shoal resume\" goes on"
	case l.paused.On:
		return "by the owner until " + l.paused.Until.Local().Format(time.DateTime)
	case !l.set.Schedule.Works(now.Local()):
		return fmt.Sprintf("the schedule is %v", l.set.Schedule)
	}
	return ""
}

// pause takes the owner's word and returns when no job runs any more, or ctx ends.
func (l *limits) pause(ctx context.Context, p pausedBy) error {
	if err := l.n.lib.t.write(put(pauseKey, p)); err != nil {
		return err
	}
	l.mu.Lock()
	l.paused = p
	l.mu.Unlock()
	l.n.jobs.hold(l.why()) // at once, not when run comes round
	l.signal()
	return ctx.Err()
}

// Pause implements api.Node.
func (n *Node) Pause(ctx context.Context, r api.PauseRequest) (api.Info, error) {
	const longest = 366 * 24 * time.Hour
	if r.For < 0 || r.For > longest.Seconds() {
		return api.Info{}, api.BadRequest("pause for %g s: want up to a year", r.For)
	}
	p := pausedBy{On: true}
	if r.For > 0 {
		p.Until = n.limits.now().Add(time.Duration(r.For * float64(time.Second)))
	}
	if err := n.limits.pause(ctx, p); err != nil {
		return api.Info{}, err
	}
	return n.Info(ctx)
}

// Resume implements api.Node.
func (n *Node) Resume(ctx context.Context) (api.Info, error) {
	if err := n.limits.pause(ctx, pausedBy{}); err != nil {
		return api.Info{}, err
	}
	return n.Info(ctx)
}

// Limits implements api.Node.
func (n *Node) Limits(context.Context) (map[string]string, error) {
	n.limits.mu.Lock()
	defer n.limits.mu.Unlock()
	return n.limits.set.Text(), nil
}

// SetLimits implements api.Node.
func (n *Node) SetLimits(_ context.Context, changes map[string]string) (map[string]string, error) {
	n.limits.mu.Lock()
	defer n.limits.mu.Unlock()
	set, err := n.limits.set.With(changes)
	if err != nil {
		return nil, api.BadRequest("%v", err)
	}
	if err := config.SaveLimits(n.cfg.Home, changes); err != nil {
		return nil, err
	}
	return set.Text(), n.limits.apply(set)
}
