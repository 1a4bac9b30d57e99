package coord

import (
	"slices"
	"time"
)

// Initial and least values of deadlines (a guess, until rounds have been seen).
const (
	firstCollect = 5 * time.Second
	firstGather  = 2 * time.Second
	leastWait    = time.Second // under any normal jitter of a busy machine a member is not late before
	mostWait     = time.Hour
	deadlineK    = 5 // times the median absolute deviation
	timingMemory = 32
	timingEnough = 3
)

// timing remembers how long a phase took in the newest rounds.
type timing struct {
	took []time.Duration // oldest first
	last time.Duration   // the deadline last derived
}

func (t *timing) add(d time.Duration) {
	t.took = append(t.took, d)
	if len(t.took) > timingMemory {
		t.took = slices.Delete(t.took, 0, 1)
	}
}

// deadline is twice the median plus k·MAD of what was seen; it at most doubles from round to round.
func (t *timing) deadline(initial time.Duration) time.Duration {
	d := initial
	if len(t.took) >= timingEnough {
		med := median(t.took)
		dev := make([]time.Duration, len(t.took))
		for i, x := range t.took {
			dev[i] = (x - med).Abs()
		}
		d = max(2*med+deadlineK*median(dev), leastWait)
		if t.last > 0 {
			d = min(d, 2*t.last)
		}
	}
	t.last = d
	return d
}

// patience is how long a member that is not needed is waited for: as long again as the phase usually takes.
func (t *timing) patience() time.Duration {
	if len(t.took) == 0 {
		return leastWait
	}
	return min(max(2*median(t.took), leastWait/4), leastWait)
}

func median(ds []time.Duration) time.Duration {
	s := slices.Clone(ds)
	slices.Sort(s)
	return s[len(s)/2]
}

// deadlines of a plan. New members and shrunken teams have no history, so the work itself is a bound from below: twice
// the slowest member's announced time for its positions.
func (m *Machine) deadlines(e *PlanEntry, d draft) (collect, gather time.Duration) {
	work, send := m.slowest(e, d.attempt)
	if e.flows() {
		work, send = m.flowTime(e, d.round)
	}
	collect = max(m.lead.collect.deadline(max(2*work, firstCollect)+max(send, firstGather)), 2*work)
	if m.g.diloco() {
		collect = m.lead.collect.ownDeadline(work, send)
	}
	gather = m.lead.gather.deadline(max(send, firstGather))
	return doubled(collect, d.slower), doubled(gather, d.slower)
}

// doubled is d·2^n, at most mostWait.
func doubled(d time.Duration, n int) time.Duration {
	for ; n > 0 && d < mostWait; n-- {
		d *= 2
	}
	return min(d, mostWait)
}

// slowest is the longest announced time of the new pieces, and of sending a vector.
func (m *Machine) slowest(e *PlanEntry, attempt uint32) (work, send time.Duration) {
	vector := float64(4 * m.g.Chunks[len(m.g.Chunks)-1].Hi) // bytes
	for _, pc := range e.Pieces {
		p := m.peers.find(pc.ID)
		if p == nil || pc.Attempt != attempt && !m.g.diloco() {
			continue
		}
		n := uint64(0)
		for _, r := range pc.Ranges {
			n += r.Len()
		}
		if p.cap.RowsPerSec > 0 {
			work = max(work, seconds(float64(n)/p.cap.RowsPerSec))
		}
		if p.cap.BytesPerSec > 0 {
			send = max(send, seconds(vector/p.cap.BytesPerSec))
		}
	}
	return work, max(send, m.slowestOwner(e))
}

// slowestOwner is the longest announced time in which an owner sends its chunks of the result to everybody.
func (m *Machine) slowestOwner(e *PlanEntry) (send time.Duration) {
	owned := map[int]int{} // row → elements
	for c, os := range m.owners(e) {
		owned[os[0]] += m.g.Chunks[c].Hi - m.g.Chunks[c].Lo
	}
	for o, n := range owned { // only the largest counts: the order does not show
		if p := m.peers.find(e.Members[o].ID); p != nil && p.cap.BytesPerSec > 0 {
			send = max(send, seconds(float64(4*n*(len(e.Members)-1))/p.cap.BytesPerSec))
		}
	}
	return send
}

// seconds is s as a duration, at most mostWait.
func seconds(s float64) time.Duration {
	return time.Duration(min(s, mostWait.Seconds()) * float64(time.Second))
}

// noteArrival remembers how long the work of this plan took. Rounds that went wrong teach nothing about good ones.
func (m *Machine) noteArrival() {
	from := m.lead.from
	if m.job.plan.flows() {
		from = m.job.plan.since // the phase began anew with the seal
	}
	if attemptOf(m.job.plan.key.Attempt) == 0 && m.lead.tries == 0 {
		m.lead.collect.add(m.now - from)
	}
	m.lead.cutAt = m.now - m.lead.began
}
