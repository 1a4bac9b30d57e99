package coord

import (
	"flag"
	"runtime"
	"testing"
	"time"
)

var failing = flag.Uint64("failing", 250, "rounds of TestFailedRoundsLeaveNothing")

// TestFailedRoundsLeaveNothing: after many rounds in each of which an owner dies and comes back, a node holds no more
// than after a tenth of them. (A Machine has no goroutines.)
func TestFailedRoundsLeaveNothing(t *testing.T) {
	rounds := *failing
	if raceEnabled || testing.Short() {
		rounds = min(rounds, 100)
	}
	s := newSwarm(t, 31, options{nodes: 4, steps: rounds + 10, batch: 4, min: 4, every: 50, perRow: 20 * time.Millisecond})
	s.startAll()
	goroutines := runtime.NumGoroutine()
	var early uint64
	failed := 0
	for round := uint64(1); round <= rounds; {
		s.until("a round is under way", time.Minute, func() bool { return s.round() >= round && s.phase() != "" })
		round = s.round() + 1
		i := 1 + int(round)%3 // the submitter stays, so that the log has a majority
		s.net.Kill(s.nodes[i].id)
		s.until("the round commits", time.Minute, func() bool { return s.done[round] })
		failed++
		s.start(i)
		s.until("it is back", time.Minute, func() bool { return s.keepersLive() && s.nodes[i].run.ready })
		if early == 0 && round > rounds/10 {
			early = s.held()
		}
	}
	late := s.held()
	t.Logf("%d failed rounds: %d KiB held after a tenth of them, %d KiB at the end", failed, early>>10, late>>10)
	if late > early+early/4+(1<<20) {
		t.Errorf("%d bytes after a tenth of the rounds, %d after all", early, late)
	}
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	for _, r := range s.living() {
		j, me := r.m.job, r.m.me
		if len(j.spine) > 16 || len(j.recent) > maxRecent || len(j.trail) > maxTrail || len(me.staged) > StagedResults || len(r.m.peers.peers) > len(s.nodes) {
			t.Errorf("%s keeps %d entries of state, %d newest, %d commits, %d results, %d peers", r.id, len(j.spine),
				len(j.recent), len(j.trail), len(me.staged), len(r.m.peers.peers))
		}
	}
}

// held is the memory in use, bytes, without what the test itself collects.
func (s *swarm) held() uint64 {
	clear(s.log)
	for _, n := range s.nodes {
		n.run.rounds, n.run.notes, n.run.back = nil, nil, nil
	}
	runtime.GC()
	runtime.GC() // what pools held until the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
