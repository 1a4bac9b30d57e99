package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// stateKeeper knows which commit the trainer's state belongs to and how the job got there, hands out copies of it, and
// takes new state in.
type stateKeeper struct {
	t       *trainer.Trainer
	fetched chan fetched // at most one: the newest

	mu       sync.Mutex
	advanced sync.Cond // history grew or was replaced; its lock is mu
	history  []trainer.StepReport
	kept     *snapshot          // at the newest step that a checkpoint is due for
	commits  map[uint64]cid.Cid // of this state and the one before
	reported uint64             // last step that people were told of
	cancel   context.CancelFunc // of the trainer's present run
	fetch    context.CancelFunc // of the fetch that is under way
	fetches  uint64             // begun so far: the last one alone counts
}

func newStateKeeper(t *trainer.Trainer) *stateKeeper {
	k := &stateKeeper{t: t, fetched: make(chan fetched, 1), commits: map[uint64]cid.Cid{}}
	k.advanced.L = &k.mu
	return k
}

// runContext is the context of the trainer's next run; interrupt ends it.
func (k *stateKeeper) runContext(ctx context.Context) context.Context {
	k.mu.Lock()
	defer k.mu.Unlock()
	ctx, k.cancel = context.WithCancel(ctx)
	return ctx
}

func (k *stateKeeper) interrupt() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cancel != nil {
		k.cancel()
	}
}

// advance notes a step that the trainer has just done, and returns the hash of the new state. With keep it copies the
// state too: a checkpoint of this step will be asked for while the trainer is busy with the next.
func (k *stateKeeper) advance(r trainer.StepReport, commit cid.Cid, keep bool) (collective.Hash, error) {
	k.mu.Lock()
	k.history = append(k.history[:min(uint64(len(k.history)), r.Step-1)], portable(r))
	k.commits[r.Step] = commit
	delete(k.commits, r.Step-2)
	k.advanced.Broadcast()
	k.mu.Unlock()
	if keep {
		s, err := k.copy()
		if err != nil {
			return collective.Hash{}, err
		}
		k.mu.Lock()
		k.kept = &s
		k.mu.Unlock()
	}
	return k.t.StateHash()
}

// at returns the state of a step, from the kept copy where it is that.
func (k *stateKeeper) at(step uint64, commit cid.Cid) (snapshot, error) {
	k.mu.Lock()
	kept := k.kept
	k.mu.Unlock()
	if kept != nil && kept.State.Step == step && kept.Commit == commit {
		return *kept, nil
	}
	s, err := k.copy()
	if err == nil && (s.State.Step != step || s.Commit != commit) {
		err = fmt.Errorf("this node's state is that of step %d by now", s.State.Step)
	}
	return s, err
}

// replace takes over the history of fetched state and returns it.
func (k *stateKeeper) replace(s snapshot) []trainer.StepReport {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.history, k.commits = s.History, map[uint64]cid.Cid{s.State.Step: s.Commit}
	k.advanced.Broadcast()
	return s.History
}

// tell notes that people heard of step, and says whether they had not yet.
func (k *stateKeeper) tell(step uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if step <= k.reported {
		return false
	}
	k.reported = step
	return true
}

// back forgets what was told past step.
func (k *stateKeeper) back(step uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reported = min(k.reported, step)
}

// copy returns the state as of a commit. A step that the trainer has done but not noted yet is waited for: it takes
// no longer than a hash.
func (k *stateKeeper) copy() (snapshot, error) {
	st, err := k.t.Snapshot()
	if err != nil {
		return snapshot{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for uint64(len(k.history)) < st.Step {
		k.advanced.Wait()
	}
	return snapshot{State: st, Commit: k.commits[st.Step], History: k.history[:st.Step:st.Step]}, nil
}

// offer hands what a fetch brought to the trainer's goroutine, in place of anything that waits.
func (k *stateKeeper) offer(s fetched) {
	select {
	case <-k.fetched:
	default:
	}
	k.fetched <- s
}

// fetched is state with the number of the fetch that brought it.
type fetched struct {
	snapshot
	fetch uint64
}

// begin cancels the fetch under way, if any, and returns the context and number of a new one. Once it returned, state
// that an older one brought is not the last word any more.
func (k *stateKeeper) begin(ctx context.Context) (context.Context, uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fetch != nil {
		k.fetch()
	}
	ctx, k.fetch = context.WithCancel(ctx)
	k.fetches++
	return ctx, k.fetches
}

// settled calls f if no fetch was begun after the given one.
func (k *stateKeeper) settled(fetch uint64, f func()) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fetches != fetch {
		return false
	}
	f()
	return true
}

// portable is r without what only this node can know, and with numbers that JSON can carry.
func portable(r trainer.StepReport) trainer.StepReport {
	r.Time = 0
	for _, f := range []*float64{&r.Loss, &r.GradNorm} {
		if math.IsNaN(*f) || math.IsInf(*f, 0) {
			*f, r.Skipped = 0, true
		}
	}
	return r
}

// performState starts what moves or stores whole states.
func (j *Job) performState(e coord.Effect) {
	switch e := e.(type) {
	case coord.Rollback:
		j.group.Reset()
		j.rounds.drop()
		j.state.interrupt()
		j.state.back(e.Round)
		if j.moments != nil {
			j.moments.back(e.Round)
		}
		j.report(task.Back{Step: e.Round})
	case coord.Fetch:
		ctx, n := j.state.begin(j.ctx)
		j.rounds.exclude()
		j.group.Withdraw() // the trainer will write to the vectors that it lent
		j.state.interrupt()
		j.work.Go(func() { j.fetch(ctx, n, e) })
	case coord.WriteCheckpoint:
		j.work.Go(func() { j.writeCheckpoint(e) })
	case coord.KeepCheckpoint:
		j.dropKeeps(e.DropBefore)
		ctx := j.beginKeep(e.Round)
		j.work.Go(func() { j.keepCheckpoint(ctx, e) })
	}
}

// writeCheckpoint stores and pins the checkpoint of a commit.
func (j *Job) writeCheckpoint(e coord.WriteCheckpoint) {
	c, err := func() (cid.Cid, error) {
		s, err := j.state.at(e.Round, e.Commit)
		if err != nil {
			return cid.Undef, err
		}
		if j.moments != nil {
			if s.Files, err = j.gatherParts(j.ctx, e.Round, e.Commit); err != nil {
				return cid.Undef, err
			}
		}
		c, err := saveSnapshot(j.ctx, j.Store, j.task.ID, s)
		if err != nil {
			return cid.Undef, err
		}
		return c, j.pin(checkpointPin(e.Round), c)
	}()
	if err != nil {
		j.note(fmt.Sprintf("checkpoint of step %d is not stored here: %v", e.Round, err))
		if errors.Is(err, shard.ErrFull) {
			j.hinder(err)
		}
		return
	}
	j.post(coord.Stored{Round: e.Round, Manifest: c})
}

// beginKeep is the context of fetching a settled checkpoint, which ends when that is not wanted any more. The loop alone
// calls this and dropKeeps.
func (j *Job) beginKeep(round uint64) context.Context {
	ctx, cancel := context.WithCancel(j.ctx)
	if old := j.keeps[round]; old != nil {
		old()
	}
	j.keeps[round] = cancel
	return ctx
}

// dropKeeps gives up checkpoints of rounds before the given one: others drop them too, so they might never come.
func (j *Job) dropKeeps(before uint64) {
	for round, cancel := range j.keeps {
		if round < before {
			cancel()
			delete(j.keeps, round)
		}
	}
}

// keepCheckpoint makes a settled checkpoint durable here, and drops the pins of those before the last two.
func (j *Job) keepCheckpoint(ctx context.Context, e coord.KeepCheckpoint) {
	err := j.pin(checkpointPin(e.Round), e.Manifest)
	if err == nil {
		_, err = j.fetchManifest(ctx, e.Manifest, e.Holders)
	}
	if ctx.Err() != nil {
		return // a newer one took its place, and drops this one's pin
	}
	if err != nil {
		j.note(fmt.Sprintf("settled checkpoint of step %d is not complete here yet: %v", e.Round, err))
		return
	}
	j.unpinBefore(e.DropBefore)
	if j.moments != nil {
		j.moments.from(e.Manifest, e.Round)
	}
	if h, err := loadHistory(j.ctx, j.reader(), j.task.ID, e.Manifest); err != nil {
		j.log.Warn("history of a settled checkpoint", "step", e.Round, "err", err)
	} else {
		j.reportSteps(h, "") // of steps that were done while this node was away
	}
	j.post(coord.Stored{Round: e.Round, Manifest: e.Manifest})
	j.report(task.Settled{Step: e.Round, Manifest: e.Manifest})
	j.loops.Go(func() { j.holdBest(e.Holders...) })
}
