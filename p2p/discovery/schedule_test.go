package discovery

import (
	"fmt"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

func newSchedule() *schedule {
	return &schedule{self: "me", keys: map[cid.Cid]*rendezvous{}}
}

// run performs what is due every second for a time and counts it.
func (s *schedule) run(from, to time.Duration, dialable, short, fails bool) (provided, searched int) {
	for now := from; now < to; now += time.Second {
		for o, ok := s.next(now, dialable, short); ok; o, ok = s.next(now, dialable, short) {
			if o.provide {
				provided++
			} else {
				searched++
			}
			s.done(o, fails, now)
		}
	}
	return provided, searched
}

func TestScheduleIsGentle(t *testing.T) {
	key := p2p.RendezvousKey("t", "swarm")
	for _, tc := range []struct {
		name                         string
		dialable, short, fails, must bool
		provided, searched           [2]int // within the first hour: least, most
	}{
		{"alone, nobody answers", true, true, true, false, [2]int{25, 60}, [2]int{25, 60}},
		{"a few peers", true, true, false, false, [2]int{1, 2}, [2]int{8, 20}},
		{"enough peers", true, false, false, false, [2]int{1, 2}, [2]int{0, 0}},
		{"enough peers, but a job's members", true, false, false, true, [2]int{1, 2}, [2]int{8, 20}},
		{"nobody can dial this node", false, true, false, false, [2]int{0, 0}, [2]int{8, 20}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSchedule()
			s.add(key, true, true, tc.must, 0)
			p, f := s.run(0, time.Hour, tc.dialable, tc.short, tc.fails)
			if p < tc.provided[0] || p > tc.provided[1] || f < tc.searched[0] || f > tc.searched[1] {
				t.Errorf("provided %d, searched %d times; want %v, %v", p, f, tc.provided, tc.searched)
			}
		})
	}
}

func TestScheduleStartsOver(t *testing.T) {
	s := newSchedule()
	s.add(p2p.RendezvousKey("t", "swarm"), true, true, false, 0)
	s.run(0, time.Hour, true, true, false)
	s.moved(time.Hour)
	s.alone(time.Hour)
	if p, f := s.run(time.Hour, time.Hour+10*time.Second, true, true, false); p != 1 || f < 1 {
		t.Errorf("after moving and being left alone: provided %d, searched %d", p, f)
	}
}

func TestScheduleIsBounded(t *testing.T) {
	s := newSchedule()
	for i := range 2 * maxKeys {
		s.add(p2p.RendezvousKey("t", fmt.Sprint(i)), true, true, true, 0)
	}
	if len(s.keys) != maxKeys {
		t.Errorf("%d keys", len(s.keys))
	}
}

// A node whose bootstraps are all down for a minute joins within some seconds of the first one's return, and has not
// hammered at them.
func TestBookAfterAnOutage(t *testing.T) {
	b := newBook("me", 24)
	boots := []string{"one", "two", "three"}
	for _, id := range boots {
		b.found(FromBootstrap, "", record.PeerID(id), []string{"/ip4/192.0.2.1/tcp/1"}, 0)
	}
	dials := 0
	for now := time.Duration(0); now < 2*time.Minute; now += 100 * time.Millisecond {
		for _, e := range b.due(now) {
			dials++
			if now > time.Minute && e.id == record.PeerID("two") {
				if dials > 75 || now > time.Minute+15*time.Second {
					t.Errorf("joined after %v and %d dials", now, dials)
				}
				return
			}
			b.dialed(e.id, "connection refused", now+10*time.Millisecond)
		}
	}
	t.Error("never joined")
}
