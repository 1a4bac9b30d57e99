package collective

import (
	"errors"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
)

// perform sends what the machine wants sent, and does what is due by the clock, until the Group closes.
func (g *Group) perform() {
	clock := time.NewTimer(time.Hour)
	defer clock.Stop()
	for {
		sends, next := g.due(time.Now())
		for _, t := range sends {
			g.send(t)
		}
		if len(sends) > 0 {
			continue
		}
		clock.Reset(next)
		select {
		case <-g.wake:
		case <-clock.C:
		case <-g.stop:
			return
		}
	}
}

// tell calls Events until the Group closes.
func (g *Group) tell() {
	for {
		g.mu.Lock()
		events := g.events
		g.events = nil
		g.mu.Unlock()
		for _, e := range events {
			select {
			case <-g.stop:
				return
			default:
				g.call(e)
			}
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-g.news:
		case <-g.stop:
			return
		}
	}
}

func (g *Group) call(e Effect) {
	switch {
	case e.Have != nil && g.on.Have != nil:
		g.on.Have(*e.Have)
	case e.Done != nil && g.on.Done != nil:
		g.on.Done(*e.Done)
	case e.Step != nil && g.on.Step != nil:
		g.on.Step(*e.Step)
	}
}

// due takes what there is to do now, and says for how long there may be nothing else.
func (g *Group) due(now time.Time) (sends []task, next time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	next = time.Hour
	if !g.reportAt.IsZero() {
		if wait := g.reportAt.Sub(now); wait > 0 {
			next = min(next, wait)
		} else {
			g.reportAt = time.Time{}
			g.keep(g.m.Report())
			poke(g.news)
		}
	}
	for to, r := range g.retries {
		if r.at.IsZero() {
			continue
		}
		if wait := r.at.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		r.at, r.pause = time.Time{}, min(2*r.pause, lastPause)
		g.keep(g.m.Retry(to))
	}
	sends, g.sends = g.sends, nil
	return sends, next
}

// send hands a frame to xfer.
func (g *Group) send(t task) {
	to, f, lease := t.To, t.Frame, t.lease
	meta, err := encodeMeta(f)
	if err != nil {
		panic("collective: " + err.Error()) // plain numbers and CIDs always encode
	}
	_, unit := f.Codec.Unit()
	g.under.Add(1)
	g.e.x.Send(to, &xfer.Transfer{
		Service: Service, Meta: meta, Size: f.Codec.Size(len(f.Data)), Unit: unit, Later: t.Later, Spare: t.Spare,
		Lend: func(lo, hi int, use func([]byte)) bool { return lease.lend(f, lo, hi, &g.scratch, use) },
		Done: func(err error) { g.sent(to, f, err) },
	})
}

// Sending tells whether something waits for the network now.
func (g *Group) Sending() bool { return g.under.Load() > 0 }

// sent tells the machine how a send went, and plans to repeat it if that may help.
func (g *Group) sent(to record.PeerID, f *Frame, err error) {
	g.under.Add(-1)
	var refused xfer.Refused
	if errors.As(err, &refused) && refused.Code != xfer.CodeNoService {
		err = Refusal(refused.Code)
	}
	g.step(func() []Effect {
		out := g.m.Sent(to, f, err)
		g.noteReach(to, err)
		switch {
		case err == nil:
			if r := g.retries[to]; r != nil {
				r.pause = firstPause
			}
		case again(err) && g.m.plan != nil && g.m.plan.Key == f.Key:
			g.retryLater(to)
		}
		return out
	})
}

// again says whether sending the same once more may end better.
func again(err error) bool {
	var why Refusal
	if errors.As(err, &why) {
		return why == RefusedUnknown
	}
	return !errors.Is(err, xfer.ErrCanceled)
}

// retryLater plans a retry. Called with mu held.
func (g *Group) retryLater(to record.PeerID) {
	r := g.retryOf(to)
	if r.at.IsZero() {
		r.at = time.Now().Add(r.pause)
	}
}

func (g *Group) retryOf(to record.PeerID) *retry {
	r := g.retries[to]
	if r == nil {
		r = &retry{pause: firstPause}
		g.retries[to] = r
	}
	return r
}

// owned is the number of elements that this member adds up.
func (m *Machine) owned() (n int) {
	for _, c := range m.plan.owned {
		n += m.plan.Chunks[c].Hi - m.plan.Chunks[c].Lo
	}
	return n
}
