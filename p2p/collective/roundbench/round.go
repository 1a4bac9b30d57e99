//go:build unix

package main

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// running is one round, with or without a death.
type running struct {
	b      *bench
	victim *process      // to be killed, or nil
	at     time.Duration // when
	dead   *process
	lost   <-chan time.Time // when one that was stopped is given up
	silent time.Duration    // for how long it was not

	plan   *collective.Plan
	haves  map[record.PeerID]collective.Have
	short  map[record.PeerID]bool // who holds all but the dead's piece
	dones  map[record.PeerID][]collective.Hash
	worst  float64 // error
	killed <-chan time.Time

	began   time.Time
	cutAt   time.Duration   // after began
	doneAt  []time.Duration // of each member, the same
	firstIn time.Duration   // when the first owner had everything
}

// run returns how long it took until everybody alive had the result.
func (r *running) run() (time.Duration, error) {
	r.b.round++
	r.began = time.Now()
	r.propose(1, nil)
	if r.victim != nil {
		r.killed = time.After(r.at)
	}
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for !r.over() {
		select {
		case n := <-r.b.news:
			if err := r.hear(n); err != nil {
				return 0, err
			}
		case <-r.killed:
			r.strike()
		case <-r.lost:
			r.silent = *detect
			r.bury()
		case <-limit.C:
			return 0, fmt.Errorf("round %d hangs", r.b.round)
		}
	}
	took := time.Since(r.began) - r.silent
	r.tell(order{Commit: &r.plan.Key})
	if r.victim != nil && (r.dead == nil || *freeze) { // it dies after the round
		r.victim.cmd.Process.Kill()
		if _, err := r.b.wait(func(n news) bool { return n.ended }); err != nil {
			return 0, err
		}
	}
	return took, r.check()
}

// strike kills or stops the victim. A stopped one is noticed by its silence, as by the leader of a job.
func (r *running) strike() {
	r.killed = nil
	if !*freeze {
		r.victim.cmd.Process.Kill()
		return
	}
	r.victim.cmd.Process.Signal(syscall.SIGSTOP)
	r.lost = time.After(*detect)
}

// bury goes on without the victim.
func (r *running) bury() {
	r.dead = r.victim
	keep := r.living()
	if r.certain(r.dead) {
		keep = r.plan.Pieces
	}
	delete(r.dones, r.dead.member.ID)
	if !r.over() {
		r.propose(2, keep)
	}
}

func (r *running) alive() []*process {
	return slices.DeleteFunc(slices.Clone(r.b.all), func(p *process) bool { return p == r.dead })
}

func (r *running) tell(o order) {
	for _, p := range r.alive() {
		p.tell(o)
	}
}

func (r *running) over() bool { return len(r.dones) == len(r.alive()) }

// propose puts a plan in force: chunk c belongs to peer c modulo the number of peers, and to the next one if that is dead.
func (r *running) propose(attempt uint32, keep []collective.PieceID) {
	p := &collective.Plan{Codec: r.b.codec, Pieces: keep, Key: collective.Key{Job: job, Round: r.b.round, Attempt: attempt,
		Plan: record.CID(fmt.Append(nil, "plan", r.b.round, attempt))}}
	place := map[*process]int{}
	for _, q := range r.alive() {
		place[q] = len(p.Members)
		p.Members = append(p.Members, q.member)
		if attempt == 1 {
			p.Pieces = append(p.Pieces, collective.PieceID{Round: r.b.round, Attempt: 1, Member: q.member.ID})
		}
	}
	for lo := 0; lo < *elements; lo += collective.MaxChunkLen {
		var owners []int
		for i := range r.b.all {
			if k, ok := place[r.b.all[(len(p.Chunks)+i)%len(r.b.all)]]; ok && len(owners) < 2 {
				owners = append(owners, k)
			}
		}
		p.Chunks = append(p.Chunks, collective.Chunk{Lo: lo, Hi: min(lo+collective.MaxChunkLen, *elements)})
		p.Owners = append(p.Owners, owners)
	}
	r.plan, r.haves, r.short, r.dones = p, map[record.PeerID]collective.Have{}, map[record.PeerID]bool{}, map[record.PeerID][]collective.Hash{}
	r.tell(order{Plan: p})
}

func (r *running) hear(n news) error {
	switch {
	case n.ended && n.from == r.victim:
		r.bury()
	case n.ended:
		return fmt.Errorf("peer %d ended", n.from.number)
	case n.Have != nil && n.Have.Key == r.plan.Key && len(n.Have.Pieces) == len(r.plan.Pieces):
		if len(r.haves) == 0 {
			r.firstIn = time.Since(r.began)
		}
		r.haves[n.ID] = *n.Have
		delete(r.short, n.ID)
		r.goOn()
	case n.Have != nil && n.Have.Key == r.plan.Key && r.dead != nil && slices.Equal(ids(n.Have.Pieces), r.living()):
		r.short[n.ID] = true
		r.goOn()
	case n.Done != nil:
		n.from.cpu, n.from.sent = n.Done.CPU, n.Done.Sent
		if n.Done.Key == r.plan.Key {
			r.dones[n.ID] = n.Done.Units
			r.doneAt = append(r.doneAt, time.Since(r.began))
			r.worst = max(r.worst, n.Done.Error)
		}
	}
	return nil
}

// living are the pieces of members that are alive.
func (r *running) living() []collective.PieceID {
	return slices.DeleteFunc(slices.Clone(r.plan.Pieces), func(id collective.PieceID) bool {
		return r.dead != nil && id.Member == r.dead.member.ID
	})
}

func ids(marks []collective.Mark) (out []collective.PieceID) {
	for _, k := range marks {
		out = append(out, k.PieceID)
	}
	return out
}

// goOn cuts when everybody has everything. A dead owner's own slices may have died with it, on their way to its successor:
// the round then goes on without its piece.
func (r *running) goOn() {
	switch {
	case len(r.haves) == len(r.plan.Members):
		r.cut()
	case len(r.haves)+len(r.short) == len(r.plan.Members):
		r.propose(r.plan.Attempt+1, r.living())
	}
}

// certain says whether the dead's piece still counts, by the rule of a job's leader: all other owners have told that they hold
// it, and the slices of its own chunks went to their successors.
func (r *running) certain(dead *process) bool {
	for _, m := range r.plan.Members {
		if _, told := r.haves[m.ID]; !told && m.ID != dead.member.ID {
			return false
		}
	}
	return true
}

func (r *running) cut() {
	r.cutAt = time.Since(r.began)
	c := cut{Key: r.plan.Key, Set: r.haves[r.plan.Members[0].ID].Pieces}
	for _, m := range r.plan.Members { // in their order: sums are the same every time
		c.Totals.SumSq += r.haves[m.ID].SumSq
	}
	for _, k := range c.Set {
		c.Totals.Weight += k.Weight
	}
	r.tell(order{Cut: &c})
}

// check compares what the survivors have.
func (r *running) check() error {
	var first []collective.Hash
	for _, units := range r.dones {
		if first == nil {
			first = units
		}
		if !slices.Equal(units, first) {
			return fmt.Errorf("results of round %d differ", r.b.round)
		}
	}
	return nil
}
