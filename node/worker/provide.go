package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer"
)

type member = collective.Member

// provide begins to bring the state of the chunks that this node owns under a plan; the trainer's Cut waits for it.
func (j *Job) provide(p *collective.Plan) {
	ctx, own := j.moments.begin(j.ctx, p)
	if len(own) == 0 {
		j.rounds.provide(p.Key)
		return
	}
	j.loops.Go(func() {
		why, err := j.bring(ctx, p, own)
		if ctx.Err() != nil || errors.Is(err, trainer.ErrClosed) {
			return // another plan is in force, or the job is over
		}
		if err != nil {
			j.post(coord.Failed{Why: fmt.Sprintf("optimizer state of round %d: %v", p.Round, err)})
			return
		}
		if why != "" {
			j.note(fmt.Sprintf("round %d: %s", p.Round, why))
			j.post(coord.Adopted{Key: p.Key, Why: why})
		}
		j.rounds.provide(p.Key)
	})
}

// bring sees that the trainer has state of the round before for chunks, and says what is not exactly that.
func (j *Job) bring(ctx context.Context, p *collective.Plan, chunks []int) (why string, err error) {
	m, step := j.moments, p.Round-1
	if err := m.wait(ctx, func() bool { return m.at >= step }); err != nil {
		return "", err
	}
	m.prune()
	b := &bringing{Job: j, plan: p, step: step}
	for _, c := range chunks {
		if !m.exact(c, step) {
			b.missing = append(b.missing, c)
		}
	}
	if len(b.missing) == 0 {
		return "", nil
	}
	if step > 0 && !m.trainer.Stateless() {
		for _, from := range []func(context.Context){b.fromOwners, b.fromOthers, b.fromCheckpoint} {
			from(ctx)
		}
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if step > 0 && len(b.missing) > 0 && !m.trainer.Stateless() {
		b.log.Warn("optimizer state is lost", "round", p.Round, "attempt", p.Attempt, "chunks", b.missing, "owners", b.ownersBefore(), "connected", b.connected())
	}
	b.fromNothing()
	return b.why(), b.err
}

// exact says whether the trainer has a chunk's state of a step, and not some that passes for it.
func (m *moments) exact(c int, step uint64) bool {
	at, ok := m.trainer.Kept(c)
	m.mu.Lock()
	defer m.mu.Unlock()
	return ok && at == step && m.truth(c, at) == step
}

// bringing is one search for state.
type bringing struct {
	*Job
	plan    *collective.Plan
	step    uint64
	missing []int
	mirrors []int // went on from state of an earlier step
	oldest  uint64
	fresh   []int // begin anew
	err     error // of the trainer: it cannot go on
}

// put gives the trainer state, whatever step it is of. The weights that were stepped are of use only where they are
// exactly those of the step; else what all share takes their place.
func (b *bringing) put(x trainer.Moments) {
	i, ok := slices.BinarySearch(b.missing, x.Chunk)
	if !ok || b.err != nil {
		return
	}
	exact := x.Step == b.step
	if !exact {
		b.mirrors = append(b.mirrors, x.Chunk)
		if len(b.mirrors) == 1 || x.Step < b.oldest {
			b.oldest = x.Step
		}
		b.moments.pass(x.Chunk, passed{as: b.step, of: x.Step})
		x.Step, x.W = b.step, nil
	} else {
		b.moments.pass(x.Chunk, passed{})
	}
	if b.err = b.moments.trainer.Keep(x); b.err == nil {
		b.missing = slices.Delete(b.missing, i, i+1)
	}
}

// pass notes what state of a chunk passes for.
func (m *moments) pass(c int, p passed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.passed[c] = p
}

// fromOwners asks the owners of the round before, all at a time.
func (b *bringing) fromOwners(ctx context.Context) {
	owners := b.ownersBefore()
	if len(owners) == 0 {
		return
	}
	by := map[record.PeerID][]int{}
	for _, c := range b.missing {
		if o := owners[c]; o != b.moments.self {
			by[o] = append(by[o], c)
		}
	}
	b.fetch(ctx, by, func(x trainer.Moments) bool { return x.Step == b.step })
}

// ownersBefore are those of the chunks in the round before; nil: they are not known here.
func (b *bringing) ownersBefore() []record.PeerID {
	b.moments.mu.Lock()
	defer b.moments.mu.Unlock()
	return b.moments.owners
}

// fetch asks peers for chunks, all at a time, and keeps what is wanted.
func (b *bringing) fetch(ctx context.Context, by map[record.PeerID][]int, wanted func(trainer.Moments) bool) {
	var mu sync.Mutex
	var all []trainer.Moments
	var wg sync.WaitGroup
	here := b.connected()
	for peer, chunks := range by {
		if !slices.Contains(here, peer) {
			continue
		}
		wg.Go(func() {
			_, got, err := b.moments.ask(ctx, b.askMoments, peer, momentsAsk{Step: b.step, Chunks: chunks, Send: true})
			if err != nil && ctx.Err() == nil {
				b.log.Warn("optimizer state", "from", peer, "err", err)
			}
			mu.Lock()
			all = append(all, got...)
			mu.Unlock()
		})
	}
	wg.Wait()
	for _, x := range all {
		if wanted(x) {
			b.put(x)
		}
	}
}

func (j *Job) askMoments(to record.PeerID, q momentsAsk) error {
	payload, err := record.Encode(q)
	if err != nil {
		return err
	}
	return j.Host.Control().Send(to, j.topic(topicMomentsAsk), payload)
}

// fromOthers takes the newest state that anybody here has: this node's own mirrors, or what other members have.
func (b *bringing) fromOthers(ctx context.Context) {
	if len(b.missing) == 0 {
		return
	}
	best := map[int]offer{}
	for _, c := range b.missing {
		if h, ok := b.moments.best(c, b.step); ok {
			best[c] = offer{b.moments.self, h}
		}
	}
	all := b.survey(ctx)
	if ctx.Err() != nil {
		return // what was not answered is not known not to be there
	}
	for _, o := range all {
		if old, ok := best[o.Chunk]; !ok || o.Step > old.Step {
			best[o.Chunk] = o
		}
	}
	b.settled(best)
	by := map[record.PeerID][]int{}
	for _, c := range slices.Clone(b.missing) {
		o, ok := best[c]
		switch {
		case !ok:
		case o.peer == b.moments.self:
			if x, ok, err := b.moments.state(o.momentsOf); ok && err == nil {
				b.put(x)
			}
		default:
			by[o.peer] = append(by[o.peer], c)
		}
	}
	b.fetch(ctx, by, func(x trainer.Moments) bool { return x.Step <= b.step })
	if ctx.Err() != nil {
		return
	}
	for _, c := range slices.Clone(b.missing) { // who promised more did not keep it
		if h, ok := b.moments.best(c, b.step); ok {
			if x, ok, err := b.moments.state(h); ok && err == nil && best[c].peer != "" {
				b.put(x)
			}
		}
	}
}

// settled takes out of best what a settled checkpoint here has newer.
func (b *bringing) settled(best map[int]offer) {
	b.moments.mu.Lock()
	defer b.moments.mu.Unlock()
	for c, o := range best {
		if b.moments.manifest.Defined() && b.moments.step <= b.step && b.moments.step >= o.Step {
			delete(best, c)
		}
	}
}

// offer is state that a peer has.
type offer struct {
	peer record.PeerID
	momentsOf
}

// survey asks all members what they have of what is missing.
func (b *bringing) survey(ctx context.Context) (all []offer) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	here := b.connected()
	for _, x := range b.plan.Members {
		if x.ID == b.moments.self || !slices.Contains(here, x.ID) {
			continue
		}
		wg.Go(func() {
			a, _, err := b.moments.ask(ctx, b.askMoments, x.ID, momentsAsk{Step: b.step, Chunks: b.missing})
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, h := range a.Have {
				if h.Step <= b.step {
					all = append(all, offer{x.ID, h})
				}
			}
		})
	}
	wg.Wait()
	slices.SortFunc(all, func(a, b offer) int { return strings.Compare(string(a.peer), string(b.peer)) })
	return all
}

// fromCheckpoint reads what is still missing from the newest settled checkpoint here.
func (b *bringing) fromCheckpoint(ctx context.Context) {
	b.moments.mu.Lock()
	manifest, step := b.moments.manifest, b.moments.step
	b.moments.mu.Unlock()
	if !manifest.Defined() || step > b.step || len(b.missing) == 0 {
		return
	}
	m, err := shard.LoadManifest(ctx, b.reader(), manifest)
	if err != nil {
		b.log.Warn("optimizer state of a checkpoint", "err", err)
		return
	}
	for _, c := range slices.Clone(b.missing) {
		x, ok, err := readMoments(ctx, b.reader(), m, c, b.moments.trainer)
		if err != nil {
			b.log.Warn("optimizer state of a checkpoint", "chunk", c, "err", err)
		} else if ok {
			x.Step = step
			b.put(x)
		}
	}
}

// fromNothing begins anew what is nowhere. Before the first step, and where there is no state, that is exact.
func (b *bringing) fromNothing() {
	for _, c := range slices.Clone(b.missing) {
		if b.step > 0 && !b.moments.trainer.Stateless() {
			b.fresh = append(b.fresh, c)
		}
		b.put(trainer.Moments{Chunk: c, Step: b.step})
		if b.step > 0 {
			b.moments.pass(c, passed{as: b.step}) // of step 0, whatever it passes for
		}
		if b.step == 0 { // nothing yet that could be lost
			b.moments.firstMirror(c)
		}
	}
}

// why says what is not exact.
func (b *bringing) why() string {
	var parts []string
	if n := len(b.mirrors); n > 0 {
		parts = append(parts, fmt.Sprintf("optimizer state of %d chunks goes on from step %d", n, b.oldest))
	}
	if n := len(b.fresh); n > 0 {
		parts = append(parts, fmt.Sprintf("that of %d chunks begins anew", n))
	}
	return strings.Join(parts, ", ")
}
