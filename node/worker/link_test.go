package worker

import (
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/node/coord"
)

// TestLinkRate: bursts tell the rate whatever lies between them, and what is over at once tells nothing, or that the link
// is fast.
func TestLinkRate(t *testing.T) {
	for _, tc := range []struct {
		name        string
		bytes       uint64 // of a burst
		rate        float64
		pause       time.Duration // between bursts
		least, most float64       // what is told
		idle        bool          // the link could send more, there is nothing
	}{
		{"1 MB/s", 3 << 20, 1e6, time.Second, 0.9e6, 1.1e6, false},
		{"1 MB/s, long pauses", 3 << 20, 1e6, 10 * time.Second, 0.9e6, 1.1e6, false},
		{"8 MB/s", 8 << 20, 8e6, time.Second, 7e6, 9e6, false},
		{"little", 64 << 10, 1e9, time.Second, 0, 0, false},
		{"8 MB/s, all there is", 8 << 20, 8e6, time.Second, 0, 0, true},
		{"2 MB/s, all there is", 4 << 20, 2e6, time.Second, 0, 0, true},
		{"fast", 40 << 20, 1e9, time.Second, fastEnough, fastEnough, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var l link
			var total uint64
			now := time.Duration(0)
			look := func(sent float64, waiting bool) {
				now, total = now+coord.TickEvery, total+uint64(sent)
				l.sending(now, total, waiting)
			}
			for range 5 {
				each := tc.rate * coord.TickEvery.Seconds()
				for left := float64(tc.bytes); left > 0; left -= each {
					look(min(left, each), left > each && !tc.idle)
				}
				for d := time.Duration(0); d < tc.pause; d += coord.TickEvery {
					look(500, false) // talk
				}
			}
			if got, _ := l.announced(); got < tc.least || got > tc.most {
				t.Errorf("told %.0f, want %.0f to %.0f", got, tc.least, tc.most)
			}
		})
	}
}

// TestLinkSlower: a link that becomes slower is told as slower, and noise is not told.
func TestLinkSlower(t *testing.T) {
	var l link
	told := 0
	for _, rate := range []uint64{4e6, 4.3e6, 3.8e6, 4.1e6, 1e6, 1e6, 1e6, 1e6, 1e6, 1e6} {
		if l.learn(burst{took: 2 * time.Second, bytes: 2 * rate, busy: 2 * time.Second, sent: 2 * rate}) {
			told++
		}
	}
	if got, _ := l.announced(); told < 2 || told > 6 || got > 2e6 {
		t.Errorf("told %d times, %.0f at last", told, got)
	}
}
