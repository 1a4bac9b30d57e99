package coord

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCutPair: two members that cannot connect cost an attempt when a deadline passes before that is found out, and one then;
// from then on neither owns, both work, and the reports say why. When they can connect again both own again.
func TestCutPair(t *testing.T) {
	for _, zero := range []bool{false, true} {
		t.Run(fmt.Sprint("zero ", zero), func(t *testing.T) {
			s := newSwarm(t, 21, options{nodes: 5, steps: 24, batch: 10, min: 5, every: 6, zero: zero})
			s.startAll()
			s.until("round 3", time.Minute, func() bool { return s.round() == 3 })
			a, b := s.others()
			s.net.Cut(a.id, b.id)
			s.until("round 12", time.Minute, func() bool { return s.round() == 12 })
			if got := s.attempts(4, 12); got > 9+2 {
				t.Errorf("%d attempts in 9 rounds with a cut pair, want two more at most", got)
			}
			p := s.leader().m.job.plan
			for _, r := range []*run{a, b} {
				i := p.row(r.id, r.sim.Boot())
				if row := p.Members[i]; !row.Aside || row.Syncing || slices.Contains(p.owning(), i) {
					t.Errorf("%s: %+v, owners %v", r.id, row, p.owning())
				}
				if n := s.counted(r, 6, 12); n < 6 {
					t.Errorf("%s worked in %d of 7 rounds", r.id, n)
				}
			}
			if why := s.said(a, 11); !strings.Contains(why, "connect: cannot reach "+string(b.id)) {
				t.Errorf("the report of round 11 says of %s: %q", a.id, why)
			}
			s.net.Mend(a.id, b.id)
			s.until("nobody stands aside", time.Minute, func() bool {
				l := s.leader()
				return l != nil && l.m.job.plan != nil && len(able(l.m.job.plan.Members)) == 5
			})
			s.until("the job ends", time.Minute, s.allEnded)
		})
	}
}

// others are two members of the plan that do not lead.
func (s *swarm) others() (a, b *run) {
	for _, r := range s.living() {
		switch {
		case r == s.leader():
		case a == nil:
			a = r
		default:
			return a, r
		}
	}
	return nil, nil
}

// attempts that rounds took.
func (s *swarm) attempts(from, to uint64) (n int) {
	for _, rep := range s.leader().rounds {
		if rep.Round >= from && rep.Round <= to {
			n += int(rep.Attempts)
		}
	}
	return n
}

// counted is in how many rounds a member's work counts.
func (s *swarm) counted(who *run, from, to uint64) (n int) {
	for _, rep := range s.leader().rounds {
		for _, c := range rep.Counted {
			if c.Peer == who.id && rep.Round >= from && rep.Round <= to {
				n++
			}
		}
	}
	return n
}

// said is what a report says of a member.
func (s *swarm) said(who *run, round uint64) (why string) {
	for _, rep := range s.leader().rounds {
		for _, a := range rep.Absent {
			if rep.Round == round && a.Peer == who.id {
				why += a.Phase + ": " + a.Why + "\n"
			}
		}
	}
	return why
}

// TestCutFromMost: a member that reaches the leader and nobody else does not work, and does not hold the others up.
func TestCutFromMost(t *testing.T) {
	s := newSwarm(t, 22, options{nodes: 5, steps: 20, batch: 10, min: 5, every: 6})
	s.startAll()
	s.until("round 3", time.Minute, func() bool { return s.round() == 3 })
	bad, _ := s.others()
	for _, r := range s.living() {
		if r != bad && r != s.leader() {
			s.net.Cut(bad.id, r.id)
		}
	}
	began := s.net.Now()
	s.until("round 15", time.Minute, func() bool { return s.round() == 15 })
	if got := s.attempts(4, 15); got > 12+2 {
		t.Errorf("%d attempts in 12 rounds", got)
	}
	t.Logf("12 rounds of 0.3 s took %v", s.net.Now()-began)
	s.net.Heal()
	s.until("the job ends", time.Minute, s.allEnded)
}

// TestAsymmetricPair: one direction alone is lost.
func TestAsymmetricPair(t *testing.T) {
	for seed := uint64(23); seed < 33; seed++ {
		s := newSwarm(t, seed, options{nodes: 4, steps: 16, batch: 8, min: 4, every: 6, zero: seed%2 == 0})
		s.startAll()
		s.until("round 3", time.Minute, func() bool { return s.round() == 3 })
		a, b := s.others()
		s.net.CutOneWay(a.id, b.id)
		s.until("round 12", time.Minute, func() bool { return s.round() == 12 })
		if got := s.attempts(4, 12); got > 9+2 {
			t.Errorf("seed %d: %d attempts in 9 rounds with a link that is lost one way", seed, got)
		}
		s.until("the job ends", time.Minute, s.allEnded)
	}
}

// TestRelayedOwnNothing: who is reached through relays alone owns nothing where two others work.
func TestRelayedOwnNothing(t *testing.T) {
	s := newSwarm(t, 40, options{nodes: 4, steps: 6, batch: 8, min: 4, every: 6})
	s.nodes[1].relayed, s.nodes[3].relayed = true, true
	s.startAll()
	s.until("round 3", time.Minute, func() bool { return s.round() == 3 })
	p := s.leader().m.job.plan
	for i, r := range p.Members {
		if want := r.ID == s.nodes[1].id || r.ID == s.nodes[3].id; r.Aside != want || want && slices.Contains(p.owning(), i) {
			t.Errorf("%+v owns %v", r, p.owning())
		}
	}
	s.until("the job ends", time.Minute, s.allEnded)
}
