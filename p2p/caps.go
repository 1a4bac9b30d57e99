package p2p

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// MinCap is the least bandwidth that a node can be kept to, bytes per second: with less, heartbeats come too late.
const MinCap = 64 << 10

// Caps bound what this node sends and receives, over all connections together, TLS and QUIC headers included; IP and
// TCP headers, about 4 %, are not. Zero: no bound.
type Caps struct {
	Up, Down int64 // bytes per second
}

func (c Caps) check() error {
	for _, v := range []int64{c.Up, c.Down} {
		if v != 0 && v < MinCap {
			return fmt.Errorf("a cap of %d bytes per second is too low to stay connected; want %d (%.1f Mbit/s) or more", v, MinCap, MinCap*8/1e6)
		}
	}
	return nil
}

// meter counts and paces the bytes of one host.
type meter struct {
	start    time.Time
	up, down bucket
	bulk     bucket          // a part of up, for streams that are not control, before the muxer queues them
	quit     <-chan struct{} // ends all waiting

	mu    sync.Mutex // guards conns
	conns map[*pacedConn]struct{}
}

func newMeter(c Caps, quit <-chan struct{}) *meter {
	m := &meter{start: time.Now(), quit: quit, conns: map[*pacedConn]struct{}{}}
	m.set(c)
	return m
}

// Bulk waits before the muxer, in pieces, for a little less than the cap: so the muxer's queue stays short, and control,
// which passes by, is not behind seconds of it.
const (
	bulkPiece = 8 << 10 // bytes
	bulkShare = 0.96    // of the cap; the rest is for the headers of the muxer and TLS, and for control
)

func (m *meter) set(c Caps) {
	m.up.set(c.Up)
	m.down.set(c.Down)
	m.bulk.set(int64(bulkShare * float64(c.Up)))
}

// SetCaps changes the caps; connections that are open follow at once.
func (h *Host) SetCaps(c Caps) error {
	if err := c.check(); err != nil {
		return err
	}
	h.meter.set(c)
	h.meter.mu.Lock()
	defer h.meter.mu.Unlock()
	for conn := range h.meter.conns {
		conn.fitBuffer()
	}
	return nil
}

// Wire is how many bytes this node has sent and received since its start, as Caps counts them.
func (h *Host) Wire() (up, down uint64) { return h.meter.up.total.Load(), h.meter.down.total.Load() }

// capped reports whether a cap is in force.
func (m *meter) capped() bool { return m.up.rate.Load() != 0 || m.down.rate.Load() != 0 }

// pass counts n bytes in b and waits until they may pass, or done is closed. It returns how long it waited.
func (m *meter) pass(b *bucket, n int, done <-chan struct{}) time.Duration {
	d := b.reserve(n, time.Since(m.start))
	if d < time.Millisecond {
		return 0 // the debt stays in the bucket
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-done:
	case <-m.quit:
	}
	return d
}

// bucket lets bytes pass at a rate (the "generic cell rate algorithm" of ATM): each reservation moves the time at which
// the next may pass. Whoever reserves first passes first, so many connections share it fairly.
type bucket struct {
	rate  atomic.Int64 // bytes per second; 0: no bound
	total atomic.Uint64

	mu   sync.Mutex    // guards next
	next time.Duration // since the meter's start
}

// burst is how much may pass at once after a pause; also what a busy machine may be late without losing throughput.
const burst = 100 * time.Millisecond

func (b *bucket) set(rate int64) { b.rate.Store(rate) }

// reserve counts n bytes and returns how long they have to wait.
func (b *bucket) reserve(n int, now time.Duration) time.Duration {
	b.total.Add(uint64(n))
	rate := b.rate.Load()
	if rate == 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next = max(b.next, now-burst) + time.Duration(float64(n)/float64(rate)*float64(time.Second))
	return b.next - now
}
