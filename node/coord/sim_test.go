package coord

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/simnet"
)

var (
	seeds = flag.Int("seeds", 600, "number of random fault schedules; a tenth with -short or -race")
	seed  = flag.Uint64("seed", 0, "run this fault schedule alone")
)

// TestRandomFaults runs random schedules of kills, restarts, freezes, delays, losses, cuts (of one direction too),
// partitions and late joins; in a third of them two things go wrong at the same moment.
// The invariants are checked after every event; afterwards the job has to end with the right weights everywhere.
func TestRandomFaults(t *testing.T) {
	if *seed > 0 {
		runSchedule(t, *seed, 1<<20)
		return
	}
	const lanes = 4
	last := *seeds
	if testing.Short() || raceEnabled {
		last /= 10
	}
	for lane := range lanes {
		t.Run(fmt.Sprint(lane), func(t *testing.T) {
			t.Parallel()
			for i := 1 + lane; i <= last; i += lanes {
				t.Run(fmt.Sprint("seed", i), func(t *testing.T) { runSchedule(t, uint64(i), 300) })
			}
		})
	}
}

// schedule is a random story.
type schedule struct {
	*swarm
	rng  *rand.Rand
	calm time.Duration // nothing new goes wrong from here on
}

func runSchedule(t *testing.T, seed uint64, trace int) {
	rng := rand.New(rand.NewPCG(seed, 99))
	n := 2 + rng.IntN(4)
	s := &schedule{rng: rng, calm: 20 * time.Second}
	s.swarm = newSwarm(t, seed, options{
		nodes: n, steps: 6 + rng.Uint64N(20), batch: 1 + rng.Uint64N(8), min: 1 + rng.IntN(n), every: 1 + rng.Uint64N(6),
		lazy: seed%2 == 0, zero: seed%3 == 1, perRow: time.Duration(50+rng.IntN(400)) * time.Millisecond,
		net: simnet.Config{
			Latency: time.Duration(1+rng.IntN(40)) * time.Millisecond, Jitter: 5 * time.Millisecond,
			Detect: time.Duration(10+rng.IntN(3000)) * time.Millisecond, Trace: trace,
			Loss: max(0, 0.04*rng.Float64()-0.02),
		},
	})
	if s.g.Again = seed%4 == 1; s.g.Again {
		bad := rng.Uint64N(s.g.Samples)
		s.poison = func(p uint64) bool { return p == bad }
	}
	if rng.IntN(3) == 0 {
		for range n {
			s.rates(rng)
		}
	}
	s.net.Logf("seed %d: %d nodes, %d steps of %d, at least %d", seed, n, s.g.Steps, s.g.Batch, s.g.MinPeers)
	for i := range s.nodes {
		if i < s.g.MinPeers || rng.IntN(2) == 0 {
			s.start(i)
		} else {
			s.at(rng.Int64N(15000), func() { s.start(i) })
		}
	}
	for range 1 + rng.IntN(4) {
		s.fault(s.rng.Int64N(12000))
	}
	if seed%3 == 0 {
		when := s.rng.Int64N(12000)
		s.fault(when)
		s.fault(when)
	}
	if seed%5 == 0 {
		s.at(s.rng.Int64N(15000), s.order)
	}
	s.net.After(s.calm, s.repair)
	defer func() {
		if t.Failed() {
			t.Logf("again: go test ./node/coord -run TestRandomFaults -seed %d", seed)
		}
	}()
	s.until("the job ends everywhere", 10*time.Minute, func() bool { return s.net.Now() > s.calm && s.allEnded() })
	for _, r := range s.living() {
		if r.ended != "done" || r.m.job.round != s.g.Steps {
			s.fail(fmt.Sprintf("%s ended %q at round %d", r.id, r.ended, r.m.job.round))
		}
	}
}

func (s *schedule) rates(rng *rand.Rand) {
	for _, n := range s.nodes {
		n.rate = []float64{0.1, 0.5, 1, 2}[rng.IntN(4)]
	}
}

func (s *schedule) at(ms int64, f func()) { s.net.After(time.Duration(ms)*time.Millisecond, f) }

// order has the submitter send the job back, if it runs there.
func (s *schedule) order() {
	n := s.nodes[0]
	if n.sim == nil || !n.sim.Alive() || n.run.ended != "" {
		return
	}
	j := n.run.m.job
	e := GoBack{Order: j.order() + 1}
	if i := s.rng.IntN(3); i < len(j.settled) {
		e.To = j.settled[i]
	}
	s.net.Logf("%s goes back to round %d", n.id, e.To.Round)
	n.run.do(e)
}

// fault plans one thing that goes wrong, when milliseconds from now.
func (s *schedule) fault(when int64) {
	lasts := s.rng.Int64N(8000)
	if s.rng.IntN(4) == 0 {
		lasts += 20000
	}
	i, j := s.rng.IntN(len(s.nodes)), s.rng.IntN(len(s.nodes))
	a, b := s.nodes[i], s.nodes[j]
	switch s.rng.IntN(9) {
	case 0:
		s.at(when, func() { s.kill(a) })
	case 1:
		s.at(when, func() { s.kill(a) })
		s.at(when+lasts, func() { s.restart(i) })
	case 2:
		s.at(when, func() { s.net.Freeze(a.id) })
		s.at(when+lasts, func() { s.net.Thaw(a.id) })
	case 3:
		s.at(when, func() { s.net.SetDelay(a.id, time.Duration(lasts)*time.Millisecond/10) })
		s.at(when+lasts, func() { s.net.SetDelay(a.id, 0) })
	case 4:
		s.at(when, func() { s.net.Cut(a.id, b.id) })
		s.at(when+lasts, func() { s.net.Mend(a.id, b.id) })
	case 5:
		group := s.some()
		s.at(when, func() { s.net.Partition(group) })
		s.at(when+lasts, s.net.Heal)
	case 6: // a hears b, and b does not hear a
		s.at(when, func() { s.net.CutOneWay(a.id, b.id) })
		s.at(when+lasts, func() { s.net.Mend(a.id, b.id) })
	case 7: // nobody hears a
		for _, n := range s.nodes {
			if n != a {
				s.at(when, func() { s.net.CutOneWay(a.id, n.id) })
				s.at(when+lasts, func() { s.net.Mend(a.id, n.id) })
			}
		}
	case 8:
		s.at(when, func() {
			for _, n := range s.nodes {
				s.kill(n)
			}
		})
		s.at(when+lasts, func() {
			for k := range s.nodes {
				s.restart(k)
			}
		})
	}
}

func (s *schedule) some() (ids []record.PeerID) {
	for _, n := range s.nodes {
		if s.rng.IntN(2) == 0 {
			ids = append(ids, n.id)
		}
	}
	return ids
}

func (s *schedule) kill(n *node) {
	if n.sim != nil {
		s.net.Kill(n.id)
	}
}

func (s *schedule) restart(i int) {
	if n := s.nodes[i]; n.sim != nil && !n.sim.Alive() {
		s.start(i)
	}
}

// repair ends all faults.
func (s *schedule) repair() {
	s.net.Heal()
	for i, n := range s.nodes {
		if n.sim == nil {
			s.start(i)
			continue
		}
		s.net.Thaw(n.id)
		s.net.SetDelay(n.id, 0)
		s.restart(i)
	}
}
