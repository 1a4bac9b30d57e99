package p2p

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// clockTopic carries a node's wall clock, once per connection: milliseconds since 1970, 8 bytes. Nothing that nodes agree on depends on
// clocks, but invites and memberships expire by them, and logs of two machines are read side by side.
const clockTopic = "p2p/clock"

// clocks is how far the clocks of connected peers are ahead of ours.
type clocks struct {
	mu    sync.Mutex // guards ahead
	ahead map[record.PeerID]time.Duration
}

// maxClocks bounds what is remembered; peers that left are forgotten with the others when it is full.
const maxClocks = 1024

func (c *clocks) note(id record.PeerID, ahead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ahead == nil || len(c.ahead) >= maxClocks {
		c.ahead = map[record.PeerID]time.Duration{}
	}
	c.ahead[id] = ahead
}

func (c *clocks) forget(id record.PeerID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ahead, id)
}

// median of the peers' clocks against ours, and how many told theirs.
func (c *clocks) median() (ahead time.Duration, peers int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]time.Duration, 0, len(c.ahead))
	for _, d := range c.ahead {
		all = append(all, d)
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], len(all)
}

// compareClocks tells every peer our clock when it comes up, and notes theirs.
func (h *Host) compareClocks() {
	h.control.Handle(clockTopic, func(from record.PeerID, b []byte) {
		if len(b) == 8 {
			ms := int64(binary.BigEndian.Uint64(b))
			h.clocks.note(from, time.UnixMilli(ms).Sub(time.Now()).Round(time.Millisecond))
		}
	})
	h.Watch(func(id record.PeerID, up bool) {
		if !up {
			h.clocks.forget(id)
			return
		}
		h.control.Send(id, clockTopic, binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixMilli())))
	})
}

// ClockSkew is how far the median peer's clock is ahead of this machine's, to within a round trip, and how many peers
// told theirs.
func (h *Host) ClockSkew() (ahead time.Duration, peers int) { return h.clocks.median() }
