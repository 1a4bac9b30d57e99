package worker

import (
	"context"
	"io"
	"slices"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// rounds stands between the job's coordination, which says what happens, and the trainer, which calls and blocks. It is
// the trainer's Source and Collective of one membership in a swarm.
//
// The coordination's loop calls start, release, stage, finish, exclude and end, none of which waits; the trainer's
// goroutine calls Next, Reduce, Cut and Gather. A round may reach the trainer in two ways: as work of a plan, or, when
// this member has none, as the committed result alone; both are handed out by Next, so that the trainer has one path.
type rounds struct {
	self  collective.Member
	begin func(trainer.Work)               // the trainer takes work up
	hand  func(collective.Mark, []float32) // gives a piece to the collective; must not wait for the network
	told  func(rows int)                   // of each step within a piece (diloco); may be nil

	owners bool                                    // step (parallel.zero): Cut gives means, Gather brings weights
	bring  func(collective.Key, []collective.Mean) // gives what this owner made of its means to the collective
	secure func(k collective.Key, chunks []int)    // before that; nil: nothing

	recycle func([]float32) // gives a result's vector back to the collective; nil: it is left to the garbage collector

	over chan struct{} // closed by end

	mu       sync.Mutex
	changed  chan struct{}             // closed and replaced whenever anything below changes
	plan     *collective.Plan          // in force
	queue    []queued                  // of the plan's round, by attempt, not yet taken
	totals   map[uint64]trainer.Totals // released or committed, by round
	done     []collective.Done         // staged results, oldest first, at most coord.StagedResults
	finished []finished                // committed, not yet stepped, oldest first
	stepping *coord.Finish             // what Gather handed out last
	asked    *collective.Step          // what the collective wants stepped, under the plan in force
	taken    collective.Key            // of the Step that Cut handed out last
	given    collective.Key            // of the Step whose chunks Gather handed in last
	provided collective.Key            // the newest plan for which the chunks' optimizer state is here
	works    trainer.Work              // that the trainer computes
	busy     bool                      // … now: it has not handed in its piece yet
	at       uint64                    // the trainer has the state of this round
	excluded bool                      // … which is being replaced
	ended    bool

	stages stages // of a pipeline
}

// queued is work that waits for the trainer. part: it lies on a pipeline, and the trainer has to hold these units first.
type queued struct {
	trainer.Work
	part *[2]int
}

// finished is a committed round with its result.
type finished struct {
	coord.Finish
	v []float32
}

func newRounds(self collective.Member, begin func(trainer.Work), hand func(collective.Mark, []float32)) *rounds {
	return &rounds{self: self, begin: begin, hand: hand, over: make(chan struct{}), changed: make(chan struct{}), totals: map[uint64]trainer.Totals{}}
}

// start puts a plan in force. Work of an older round is dropped; work of an earlier attempt of the same round stays.
func (r *rounds) start(s coord.Start) {
	r.update(func() {
		if r.plan == nil || r.plan.Round != s.Plan.Round || r.plan.Generation != s.Plan.Generation {
			r.queue = nil
		}
		r.plan, r.asked = s.Plan, nil
		r.pipe(s.Flow)
		delete(r.totals, s.Plan.Round) // of an attempt that is given up
		w := queued{Work: trainer.Work{Round: s.Plan.Round, Attempt: s.Plan.Attempt, Positions: s.Work, Done: s.Done, Planned: s.Planned}}
		if s.Flow != nil && s.Flow.Begin {
			w.part = &s.Flow.Part
		}
		r.queue = append(r.queue, w)
	})
}

// ask takes what the collective wants stepped.
func (r *rounds) ask(s collective.Step) {
	r.update(func() {
		if r.plan != nil && r.plan.Key == s.Key {
			r.asked = &s
		}
	})
}

func (r *rounds) release(e coord.Release) {
	r.update(func() { r.totals[e.Key.Round] = totalsOf(e.Totals, e.Peers, e.Taken) })
}

// stage keeps a complete result until a commit names it. Results that none names are dropped, oldest first.
func (r *rounds) stage(d collective.Done) {
	r.update(func() {
		r.done = append(r.done, d)
		if len(r.done) > coord.StagedResults {
			r.done = r.done[len(r.done)-coord.StagedResults:]
		}
	})
}

// finish takes the commit of a staged result; false: it is not staged here.
func (r *rounds) finish(f coord.Finish) (ok bool) {
	r.update(func() {
		i := slices.IndexFunc(r.done, func(d collective.Done) bool { return d.Key == f.Key })
		if ok = i >= 0; !ok {
			return
		}
		r.finished = append(r.finished, finished{f, r.done[i].V})
		r.done = slices.Delete(r.done, i, i+1)
		r.totals[f.Key.Round] = totalsOf(f.Totals, f.Peers, f.Taken)
	})
	return ok
}

// drop forgets work: its generation has ended. What is committed stays.
func (r *rounds) drop() {
	r.update(func() {
		r.plan, r.queue, r.asked = nil, nil, nil
		for round := range r.totals {
			if !slices.ContainsFunc(r.finished, func(f finished) bool { return f.Key.Round == round }) {
				delete(r.totals, round)
			}
		}
	})
}

// exclude makes the trainer's calls return ErrExcluded until readmit.
func (r *rounds) exclude() {
	r.update(func() { r.excluded, r.queue, r.finished, r.stepping = true, nil, nil, nil })
}

// readmit lets the trainer go on from the state of a round.
func (r *rounds) readmit(at uint64) { r.update(func() { r.at, r.excluded = at, false }) }

// end makes the trainer's calls return io.EOF once what is committed here is stepped.
func (r *rounds) end() {
	r.update(func() {
		if !r.ended {
			close(r.over)
		}
		r.ended = true
	})
}

// stepped tells which commit the trainer stepped last.
func (r *rounds) stepped() *coord.Finish {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stepping
}

// Next returns the work of the newest plan, or the round of a commit that came without work. Work of a round that the
// trainer has not reached yet waits for the commits before it.
func (r *rounds) Next(ctx context.Context) (w trainer.Work, err error) {
	err = r.wait(ctx, func() (ok bool, err error) {
		switch {
		case r.excluded:
			return false, trainer.ErrExcluded
		case len(r.finished) > 0:
			w = trainer.Work{Round: r.finished[0].Key.Round}
			return true, nil
		case r.ended:
			return false, io.EOF
		}
		q, ok := r.take()
		if w = q.Work; !ok && r.steps() {
			w, ok = trainer.Work{Round: r.at + 1, Attempt: r.asked.Attempt}, true
		}
		r.stages.flows = q.part != nil
		r.works, r.busy = w, ok && (len(w.Positions) > 0 || r.stages.flows)
		return ok, nil
	})
	if err == nil {
		r.begin(w)
	}
	return w, err
}

// steps says whether the trainer should step chunks of its next round although it has no work in it. Called with mu held.
func (r *rounds) steps() bool {
	return r.owners && r.asked != nil && r.asked.Round == r.at+1 && r.asked.Key != r.taken
}

// inVain says whether the trainer is busy with work that the cut does not count, in a round in which it has to step.
func (r *rounds) inVain(c coord.Cut) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.busy || r.works.Round != c.Key.Round || r.plan == nil || r.plan.Key != c.Key || !owns(r.plan, r.self) {
		return false
	}
	return !slices.ContainsFunc(c.Set, func(k collective.Mark) bool {
		return k.Member == r.self.ID && k.Boot == r.self.Boot && k.Attempt == r.works.Attempt
	})
}

func owns(p *collective.Plan, self collective.Member) bool {
	return slices.ContainsFunc(p.Owners, func(os []int) bool { return p.Members[os[0]].ID == self.ID })
}

// provide notes that the optimizer state of the chunks that this node owns under a plan is here.
func (r *rounds) provide(k collective.Key) { r.update(func() { r.provided = k }) }

// brought is the plan under which this node handed in chunks last.
func (r *rounds) brought() collective.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.given
}

// take takes the oldest work of the trainer's next round off the queue. Called with mu held.
func (r *rounds) take() (w queued, ok bool) {
	if i := slices.IndexFunc(r.queue, r.isNext); i >= 0 {
		w, ok = r.queue[i], true
		r.queue = slices.Delete(r.queue, i, i+1)
	}
	return w, ok
}

func (r *rounds) isNext(w queued) bool {
	return w.Round == r.at+1 && (w.part == nil || *w.part == r.stages.held)
}

// Reduce hands a piece to the collective, which keeps v until the round is over. An empty piece adds nothing and is
// not sent.
func (r *rounds) Reduce(ctx context.Context, p trainer.Piece, v []float32) error {
	r.mu.Lock()
	r.busy = false
	id, counts := r.name(p)
	r.mu.Unlock()
	if counts {
		r.hand(collective.Mark{PieceID: id, Weight: p.Tokens, Loss: p.Loss}, v)
	}
	return ctx.Err()
}

// Cut waits for the round's totals. With zero 0 the owners' sums stay inside the collective, since every member steps;
// where owners step it waits for the means of this owner's chunks too.
func (r *rounds) Cut(ctx context.Context, round uint64) (own []trainer.Chunk, t trainer.Totals, err error) {
	err = r.wait(ctx, func() (ok bool, err error) {
		if err := r.replaced(round); err != nil {
			return false, err
		}
		t, ok = r.totals[round]
		if !ok || !r.owners {
			return ok, nil
		}
		if len(r.finished) > 0 && r.finished[0].Key.Round == round {
			if r.finished[0].Key != r.given {
				own = []trainer.Chunk{} // what was tried last was of an attempt that was given up
			}
			return true, nil
		}
		if r.asked == nil || r.asked.Round != round || r.provided != r.asked.Key {
			return false, nil
		}
		own, r.taken = r.chunks(), r.asked.Key
		return true, nil
	})
	return own, t, err
}

// chunks are the means that were asked for, as the trainer knows them. Called with mu held.
func (r *rounds) chunks() []trainer.Chunk {
	own := []trainer.Chunk{}
	for _, x := range r.asked.Means {
		ch := r.plan.Chunks[x.Chunk]
		own = append(own, trainer.Chunk{Lo: ch.Lo, Hi: ch.Hi, V: x.V})
	}
	return own
}

// bringOwn gives what the trainer made of its chunks to the collective, which drops it if the plan has changed.
func (r *rounds) bringOwn(own []trainer.Chunk) {
	r.mu.Lock()
	key, plan := r.taken, r.plan
	current := plan != nil && plan.Key == key && len(own) > 0
	if current {
		r.given = key
	}
	r.mu.Unlock()
	if !current {
		return
	}
	var means []collective.Mean
	var chunks []int
	for c, ch := range plan.Chunks { // both ascend
		if len(own) > 0 && own[0].Lo == ch.Lo {
			means, chunks = append(means, collective.Mean{Chunk: c, V: own[0].V}), append(chunks, c)
			own = own[1:]
		}
	}
	if r.secure != nil {
		r.secure(key, chunks)
	}
	r.bring(key, means)
}

// Gather hands in what this owner made of its chunks, where owners step, waits for the round's commit and fills dst with
// the result that it names.
func (r *rounds) Gather(ctx context.Context, round uint64, own []trainer.Chunk, dst []float32) error {
	r.bringOwn(own)
	var v []float32
	defer func() {
		if r.recycle != nil && v != nil {
			r.recycle(v)
		}
	}()
	return r.wait(ctx, func() (bool, error) {
		if len(r.finished) == 0 || r.finished[0].Key.Round != round {
			return false, r.replaced(round)
		}
		f := r.finished[0]
		v = f.v
		copy(dst, v)
		r.finished, r.stepping, r.at = r.finished[1:], &f.Finish, round
		for past := range r.totals {
			if past <= round {
				delete(r.totals, past)
			}
		}
		return true, nil
	})
}

// replaced says whether the trainer should leave the round it is in. Called with mu held.
func (r *rounds) replaced(round uint64) error {
	switch {
	case r.excluded:
		return trainer.ErrExcluded
	case len(r.finished) > 0 && r.finished[0].Key.Round == round:
		return nil // committed: nothing can take it back but exclude
	case slices.ContainsFunc(r.queue, r.isNext) || len(r.finished) > 0:
		return trainer.ErrAttempt
	case r.ended:
		return io.EOF
	}
	return nil
}

func (r *rounds) update(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

// wait calls ready with mu held, now and after each change, until it is true or an error.
func (r *rounds) wait(ctx context.Context, ready func() (bool, error)) error {
	for {
		r.mu.Lock()
		ok, err := ready()
		changed := r.changed
		r.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func totalsOf(t collective.Totals, peers int, taken uint64) trainer.Totals {
	return trainer.Totals{Tokens: t.Weight, Loss: t.Loss, SumSq: t.SumSq, NonFinite: t.NonFinite, Peers: peers, Taken: taken}
}

// commitOf names the round that a step belongs to; Undef at round 0.
func commitOf(f *coord.Finish) cid.Cid {
	if f == nil {
		return cid.Undef
	}
	return f.Commit
}
