package worker

import (
	"slices"
	"sync"
	"time"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// link is what this node's connection to the others is like: how fast it sends, whether it is reached through relays
// alone, and whom it does not reach.
//
// The rate is that of bursts, and within them of the time in which something waited to be sent. What a round sends says
// nothing of the link when it is over at once, or when the next chunk is not there yet.
type link struct {
	mu      sync.Mutex // guards told and relayed; the rest belongs to the loop
	told    float64    // bytes per second that the others know; 0: nothing measured yet
	relayed bool

	rate      float64       // smoothed
	at        time.Duration // of the last look
	total     uint64        // sent so far, then
	waiting   bool          // something waited, then
	first     time.Duration // look of the burst that saw bytes; 0: no burst
	last      time.Duration // and the last such
	burst     burst
	looked    time.Duration // at connections
	unreached []record.PeerID
}

// burst is what left one look after the other, without a pause.
type burst struct {
	took  time.Duration // from its first to its last look
	bytes uint64        // in all, those before the first look too; when they left nobody knows
	busy  time.Duration // of took: something waited to be sent
	sent  uint64        // in that time
}

// Constants of the measurement, guesses: a burst has no pause longer than burstGap. One that was busy for exactTime tells
// the rate; a shorter one of hastyBytes tells that the link is fast. Rates above fastEnough are told as that: such links are
// not what a round waits for, and differences between processes on one machine must not move chunks.
const (
	burstGap    = 3 * coord.TickEvery
	exactTime   = 4 * coord.TickEvery
	burstBytes  = 1 << 20
	hastyBytes  = 8 << 20
	leastBytes  = 2 << 10 // per look: less is talk
	fastEnough  = 16 << 20
	connections = 5 * time.Second // between looks at them
	outOfReach  = time.Second     // for so long nothing got through
)

// sending looks at how much the node has sent since its start, and whether more waits for the network. It tells whether the
// others should hear of the rate.
func (l *link) sending(now time.Duration, total uint64, waiting bool) (news bool) {
	d, took, busy := total-l.total, now-l.at, waiting && l.waiting
	l.total, l.at, l.waiting = total, now, waiting
	switch {
	case d < leastBytes && l.first > 0 && now > l.last+burstGap:
		l.burst.took = l.last - l.first
		news = l.learn(l.burst)
		l.first = 0
	case d < leastBytes:
	case l.first == 0:
		l.first, l.last, l.burst = now, now, burst{bytes: d}
	default:
		l.last = now
		l.burst.bytes += d
		if busy {
			l.burst.busy, l.burst.sent = l.burst.busy+took, l.burst.sent+d
		}
	}
	return news
}

// learn takes a measurement.
func (l *link) learn(b burst) (news bool) {
	rate := min(float64(b.sent)/max(b.busy, coord.TickEvery).Seconds(), fastEnough)
	least := min(float64(b.bytes)/(b.took+coord.TickEvery).Seconds(), fastEnough)
	exact := b.busy >= exactTime && b.sent >= burstBytes
	switch {
	case exact && l.rate > 0:
		l.rate += paceWeight * (rate - l.rate)
	case exact:
		l.rate = rate
	case b.bytes >= hastyBytes && (l.rate > 0 || least >= fastEnough): // no more than a bound from below
		l.rate = max(l.rate, least)
	default:
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.rate/l.told - 1; l.told != 0 && d < paceMove && d > -paceMove {
		return false
	}
	l.told = l.rate
	return true
}

// meets looks at how others are reached. Who is private, and has most of its connections through relays, is relayed.
func (l *link) meets(now time.Duration, h *p2p.Host) (news bool) {
	if now < l.looked+connections {
		return false
	}
	l.looked = now
	through, peers := 0, h.Peers()
	for _, p := range peers {
		if p.Relayed {
			through++
		}
	}
	r, _ := h.Reachability()
	relayed := r.Reach != p2p.ReachPublic && 2*through > len(peers)
	l.mu.Lock()
	defer l.mu.Unlock()
	news, l.relayed = relayed != l.relayed, relayed
	return news
}

func (l *link) announced() (bytesPerSec float64, relayed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.told, l.relayed
}

// watchLink gives the coordination what changed about this node's connections. The loop calls it at each tick.
func (j *Job) watchLink(m *coord.Machine, now time.Duration) {
	fast := false
	if up, _ := j.Host.Wire(); !j.runtime.unmeasured {
		fast = j.link.sending(now, up, j.group.Sending())
	}
	if j.link.meets(now, j.Host) || fast {
		j.perform(m.Step(coord.Measured{Capability: j.capability(j.pace.announced())}))
	}
	if ids := j.group.Unreached(outOfReach); !slices.Equal(ids, j.link.unreached) {
		j.link.unreached = ids
		j.perform(m.Step(coord.Unreached{IDs: ids}))
	}
}
