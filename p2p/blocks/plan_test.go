package blocks

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// simDonor answers in order, each block in pace.
type simDonor struct {
	*donor
	pace   time.Duration
	has    func(block int) bool
	dies   time.Duration // 0: never
	busyTo time.Duration
	inbox  []simGet
}

type simGet struct {
	block     int
	seq       uint32
	cancelled bool
}

// sim runs a plan against donors in virtual time and returns when it finished and how many blocks were sent twice.
func sim(t *testing.T, total int, donors []*simDonor) (took time.Duration, twice int) {
	t.Helper()
	p := newPlan(total, 3)
	seq := uint32(0)
	sent := make([]int, total)
	for _, d := range donors {
		d.donor = p.join()
	}
	of := func(x *donor) *simDonor {
		for _, d := range donors {
			if d.donor == x {
				return d
			}
		}
		t.Fatal("a victim that is no donor")
		return nil
	}
	cancel := func(d *simDonor, seq uint32) {
		for i := range d.inbox {
			if i > 0 && d.inbox[i].seq == seq {
				d.inbox[i].cancelled = true
			}
		}
	}
	for now := time.Duration(0); !p.finished(); now += 10 * time.Millisecond {
		if now > time.Hour {
			t.Fatalf("%d of %d blocks after an hour", p.done, total)
		}
		for _, d := range donors {
			if d.gone {
				continue
			}
			if d.dies > 0 && now >= d.dies {
				p.leave(d.donor)
				continue
			}
			for _, b := range p.question(d.donor, maxHaves) {
				if d.has(b) {
					d.donor.has.set(b)
				}
			}
			for len(d.queue) < window {
				block, victim, old, ok := p.take(d.donor, seq, now)
				if !ok {
					break
				}
				if victim != nil {
					cancel(of(victim), old)
				}
				if len(d.inbox) == 0 {
					d.busyTo = now + d.pace
				}
				d.inbox = append(d.inbox, simGet{block: block, seq: seq})
				seq++
			}
			for len(d.inbox) > 0 && now >= d.busyTo {
				g := d.inbox[0]
				d.inbox = d.inbox[1:]
				d.busyTo = now + d.pace
				block, useful, ok := p.answered(d.donor, g.seq, !g.cancelled, now)
				if !ok || block != g.block {
					t.Fatalf("answer %d about block %d, want %d", g.seq, block, g.block)
				}
				if !g.cancelled {
					sent[block]++
				}
				if useful {
					for _, c := range p.finish(block) {
						cancel(of(c.from), c.seq)
					}
				}
				if len(d.inbox) > 0 && d.inbox[0].cancelled {
					d.busyTo = now
				}
			}
		}
		took = now
	}
	for _, n := range sent {
		twice += max(0, n-1)
	}
	if len(p.holders) > len(donors) {
		t.Errorf("%d blocks still held", len(p.holders))
	}
	return took, twice
}

func all(int) bool { return true }

func TestPlanSharesByPace(t *testing.T) {
	fast := &simDonor{pace: 10 * time.Millisecond, has: all}
	slow := &simDonor{pace: time.Second, has: all}
	took, twice := sim(t, 500, []*simDonor{fast, slow})
	if took > 6*time.Second || twice > 1 {
		t.Errorf("took %v, %d blocks sent twice; the fast donor alone needs 5 s", took, twice)
	}
}

func TestPlanSurvivesDeath(t *testing.T) {
	took, twice := sim(t, 300, []*simDonor{
		{pace: 30 * time.Millisecond, has: all},
		{pace: 30 * time.Millisecond, has: all, dies: time.Second},
		{pace: 30 * time.Millisecond, has: all},
	})
	if took > 5*time.Second || twice > 1 {
		t.Errorf("took %v, %d blocks sent twice", took, twice)
	}
}

func TestPlanPartialDonors(t *testing.T) {
	took, twice := sim(t, 200, []*simDonor{
		{pace: 20 * time.Millisecond, has: func(b int) bool { return b%2 == 0 }},
		{pace: 20 * time.Millisecond, has: func(b int) bool { return b%2 == 1 }},
		{pace: 20 * time.Millisecond, has: func(b int) bool { return false }},
	})
	if took > 3*time.Second || twice > 0 {
		t.Errorf("took %v, %d blocks sent twice", took, twice)
	}
}

func TestPlanRandom(t *testing.T) {
	for s := range uint64(200) {
		r := rand.New(rand.NewPCG(s, 1))
		total := 1 + r.IntN(200)
		donors := []*simDonor{{pace: time.Duration(1+r.IntN(50)) * 10 * time.Millisecond, has: all}}
		for range r.IntN(5) {
			k := 1 + r.IntN(3)
			donors = append(donors, &simDonor{
				pace: time.Duration(1+r.IntN(300)) * 10 * time.Millisecond,
				has:  func(b int) bool { return b%k == 0 },
				dies: time.Duration(r.IntN(3000)) * time.Millisecond,
			})
		}
		t.Run(fmt.Sprint("seed", s), func(t *testing.T) {
			if _, twice := sim(t, total, donors); twice > len(donors) {
				t.Errorf("%d of %d blocks sent twice", twice, total)
			}
		})
	}
}

func TestPlanRefusesWrongAnswers(t *testing.T) {
	p := newPlan(2, 0)
	d := p.join()
	d.has.set(0)
	if _, _, ok := p.answered(d, 0, true, 0); ok {
		t.Error("an answer to nothing")
	}
	if _, _, _, ok := p.take(d, 5, 0); !ok {
		t.Fatal("nothing to take")
	}
	if _, _, ok := p.answered(d, 4, true, 0); ok {
		t.Error("an answer out of turn")
	}
	if b, useful, ok := p.answered(d, 5, false, 0); b != 0 || useful || !ok || !p.pending.get(0) {
		t.Error("a block that the donor lacks is pending again")
	}
	if _, _, _, ok := p.take(d, 6, 0); ok {
		t.Error("asked again for what it lacks")
	}
}
