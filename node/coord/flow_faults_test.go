package coord

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/simnet"
)

// flowPhase tells where the leader's round of a pipeline is.
func (s *swarm) flowPhase() string {
	l := s.leader()
	switch {
	case l == nil || l.m.job.plan == nil || l.m.lead.flow == nil:
		return ""
	case l.m.job.cut != nil:
		return s.phase()
	case l.m.lead.flow.sealed > 0:
		return "sealed"
	}
	some := false
	for _, r := range s.living() {
		if r.flow != nil && r.flow.Pipe.Round == l.m.job.plan.key.Round {
			some = some || r.flow.m.Live() > 0
			if r.flow.done > 0 {
				return "backward"
			}
		}
	}
	if some {
		return "forward"
	}
	return ""
}

var flowPhases = []string{"forward", "backward", "sealed", "reduce", "gather"}

// flowWithin is how far into a phase faults happen.
var flowWithin = map[string]time.Duration{
	"forward": 20 * time.Millisecond, "backward": 150 * time.Millisecond, "sealed": 8 * time.Millisecond,
	"reduce": 4 * time.Millisecond, "gather": 2 * time.Millisecond,
}

// TestFlowFaults: three stages of two members each. Whatever happens to a member, or to the leader, in whichever phase,
// every position counts once in every stage, all have the same weights, and the job ends.
func TestFlowFaults(t *testing.T) {
	first, last := uint64(1), *matrix
	if raceEnabled || testing.Short() {
		last = min(last, 2)
	}
	if *cell > 0 {
		first, last = *cell, *cell
	}
	for _, phase := range flowPhases {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			var took []time.Duration
			for seed := first; seed <= last; seed++ {
				if d := flowCell(t, seed, phase); d > 0 {
					took = append(took, d)
				}
			}
			if len(took) > 0 {
				t.Logf("%d faults; the round commits after %v in the median, %v at worst", len(took), median(took), slices.Max(took))
			}
		})
	}
}

// flowCell does to a member what the seed says: to the leader, or to somebody of one of the stages. It returns how long the
// round took from then on; 0: it was over already.
func flowCell(t *testing.T, seed uint64, phase string) (took time.Duration) {
	rng := rand.New(rand.NewPCG(seed, 7))
	fault := []string{"dead", "frozen", "parted", "dead"}[seed%4]
	s := newSwarm(t, seed, options{nodes: 6, steps: 6, batch: 6 + rng.Uint64N(8), min: 6, every: 3, flow: true})
	defer func() {
		if t.Failed() {
			t.Logf("again: go test ./node/coord -run '%s' -cell %d", t.Name(), seed)
		}
	}()
	s.startAll()
	s.until("round 3 is "+phase, time.Minute, func() bool { return s.round() == 2 && s.flowPhase() == phase })
	s.net.Run(s.net.Now() + time.Duration(rng.Int64N(int64(flowWithin[phase]))))
	if s.leader() == nil || s.round() != 2 {
		return 0 // the phase was over by then
	}
	v := s.leader()
	if seed%5 > 0 {
		v = s.flowVictim(rng)
	}
	began := s.net.Now()
	undo := func() {}
	switch fault {
	case "parted":
		s.net.Partition([]record.PeerID{v.id})
		undo = s.net.Heal
	default:
		undo = s.hit(v, fault)
	}
	s.until("round 3 commits", time.Minute, func() bool { return s.done[3] })
	if took = s.net.Now() - began; took > flowLimit {
		s.fail(fmt.Sprintf("round 3 took %v after %s: %s %s", took, v.id, fault, phase))
	}
	undo()
	s.until("the job ends", 3*time.Minute, s.allEnded)
	s.wantDone()
	return took
}

// flowLimit is a slot in which silence shows, one in which a dead leader is replaced, and an attempt.
const flowLimit = 2*slot + 3*time.Second

func (s *swarm) flowVictim(rng *rand.Rand) *run {
	l := s.leader()
	all := slices.DeleteFunc(s.living(), func(r *run) bool { return r == l })
	return all[rng.IntN(len(all))]
}

func (s *swarm) wantDone() {
	for _, r := range s.living() {
		if r.ended != "done" || r.m.job.round != s.g.Steps {
			s.fail(fmt.Sprintf("%s ended %q at round %d", r.id, r.ended, r.m.job.round))
		}
	}
}

// TestFlowStageLost: the last member of a stage dies, in each phase. The job waits, says for what, and goes on when a node joins.
func TestFlowStageLost(t *testing.T) {
	for i, phase := range flowPhases {
		s := newSwarm(t, uint64(i+1), options{nodes: 5, steps: 6, batch: 8, min: 4, every: 3, flow: true})
		for k := range 4 {
			s.start(k)
		}
		s.until("round 3 is "+phase, time.Minute, func() bool { return s.round() == 2 && s.flowPhase() == phase })
		for range 2 { // one stage has two members, which may be the first to go
			l := s.leader()
			if l == nil {
				s.until("there is a leader", time.Minute, func() bool { return s.leader() != nil })
				l = s.leader()
			}
			all := slices.DeleteFunc(s.living(), func(r *run) bool { return r == l })
			s.net.Kill(all[i%len(all)].id)
		}
		s.until("the job waits", time.Minute, func() bool {
			return !slices.ContainsFunc(s.living(), func(r *run) bool { return r.m.Status().Waits == "" })
		})
		at := s.round()
		s.net.Run(s.net.Now() + 30*time.Second)
		if s.round() != at {
			s.fail("it goes on without a stage")
		}
		s.start(4)
		s.until("the job ends", 2*time.Minute, s.allEnded)
		s.wantDone()
	}
}

// TestFlowJoin: a node that joins while a round is under way takes part from the next one on.
func TestFlowJoin(t *testing.T) {
	s := newSwarm(t, 4, options{nodes: 5, steps: 10, batch: 8, min: 4, every: 5, flow: true})
	for i := range 4 {
		s.start(i)
	}
	s.until("round 3", time.Minute, func() bool { return s.round() == 3 && s.flowPhase() == "backward" })
	late := s.start(4)
	s.until("the job ends", time.Minute, s.allEnded)
	for _, rep := range late.rounds {
		for _, c := range rep.Counted {
			if c.Peer == late.id && rep.Round <= 6 {
				return
			}
		}
	}
	t.Error("its work does not count in the rounds after it came")
}

// TestRandomFlows runs random schedules of faults on pipelines.
func TestRandomFlows(t *testing.T) {
	first, last := 1, *seeds/30
	if *seed > 0 {
		first, last = int(*seed), int(*seed)
	}
	if raceEnabled || testing.Short() {
		last = min(last, 2)
	}
	for i := first; i <= last; i++ {
		t.Run(fmt.Sprint("seed", i), func(t *testing.T) { t.Parallel(); runFlowSchedule(t, uint64(i)) })
	}
}

func runFlowSchedule(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 77))
	s := &schedule{rng: rng, calm: 20 * time.Second}
	s.swarm = newSwarm(t, seed, options{
		nodes: 4 + rng.IntN(4), steps: 6 + rng.Uint64N(10), batch: 3 + rng.Uint64N(12), min: 3, every: 1 + rng.Uint64N(6), flow: true,
		perRow: time.Duration(50+rng.IntN(400)) * time.Millisecond, lazy: seed%2 == 0,
		net: simnet.Config{
			Latency: time.Duration(1+rng.IntN(40)) * time.Millisecond, Jitter: 5 * time.Millisecond,
			Detect: time.Duration(10+rng.IntN(3000)) * time.Millisecond, Loss: max(0, 0.02*rng.Float64()-0.01),
		},
	})
	if seed%3 == 0 {
		s.rates(rng)
	}
	if seed%4 == 1 {
		bad := rng.Uint64N(s.g.Samples)
		s.poison = func(p uint64) bool { return p == bad }
	}
	for i := range s.nodes {
		if i < 3 || rng.IntN(2) == 0 {
			s.start(i)
		} else {
			s.at(rng.Int64N(15000), func() { s.start(i) })
		}
	}
	for range 1 + rng.IntN(4) {
		s.fault(s.rng.Int64N(12000))
	}
	if seed%5 == 0 {
		s.at(s.rng.Int64N(15000), s.order)
	}
	s.net.After(s.calm, s.repair)
	defer func() {
		if t.Failed() {
			t.Logf("again: go test ./node/coord -run TestRandomFlows -seed %d", seed)
		}
	}()
	s.until("the job ends everywhere", 10*time.Minute, func() bool { return s.net.Now() > s.calm && s.allEnded() })
	s.wantDone()
}
