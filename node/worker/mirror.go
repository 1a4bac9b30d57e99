package worker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// What is between two mirrors of a chunk where the job does not say: as many rounds, and as much time. Then mirrors are a
// small part of what a round sends anyway, and of what a fast job could send.
const (
	mirrorRounds = 10
	mirrorTime   = time.Minute
)

// mirrored is what successors have of a chunk.
type mirrored struct {
	step uint64
	at   time.Time
	to   []record.PeerID
}

// mirror sends the state of this node's chunks to their successors whenever it is due, a chunk at a time, until the job
// ends. The next chunk waits for the receipts of the one before, so rounds have the lanes almost to themselves.
func (j *Job) mirror() {
	m := j.moments
	var done uint64 // step that was looked at
	for m.wait(j.ctx, func() bool { return m.at > done }) == nil {
		m.mu.Lock()
		done = m.at
		m.mu.Unlock()
		for c := range m.chunks {
			if to := m.due(c, uint64(j.task.Spec.Parallel.MirrorRounds)); len(to) > 0 {
				j.mirrorChunk(c, to)
			}
			if j.ctx.Err() != nil {
				return
			}
		}
	}
}

// secure mirrors the state that chunks have if the plan is committed, before the chunks' weights are given to anybody:
// then an owner's death loses nothing. That is what mirror_rounds: 1 means. It waits until the successors have it, or are
// gone, or another plan is in force.
func (j *Job) secure(k collective.Key, chunks []int) {
	m := j.moments
	ctx := m.context(k)
	if ctx == nil {
		return
	}
	var wg sync.WaitGroup
	window := make(chan struct{}, secureWindow)
	for _, c := range chunks {
		window <- struct{}{}
		wg.Go(func() {
			defer func() { <-window }()
			j.secureChunk(ctx, k, c)
		})
	}
	wg.Wait()
}

// secureWindow is how many chunks are on their way at a time; each is copied for it.
const secureWindow = 8

func (j *Job) secureChunk(ctx context.Context, k collective.Key, c int) {
	m := j.moments
	x, ok, err := m.trainer.Tried(c)
	if err != nil || !ok || setOf(&x) == 0 {
		return
	}
	m.mu.Lock()
	to := m.successors(c)
	m.sent[c] = mirrored{step: x.Step, at: time.Now(), to: to}
	m.mu.Unlock()
	var wg sync.WaitGroup
	for _, peer := range to {
		wg.Go(func() {
			if err := m.send(ctx.Done(), peer, vectorMeta{Job: j.task.ID, Plan: k.Plan}, &x); err != nil {
				j.log.Debug("a mirror did not arrive", "chunk", c, "to", peer, "err", err)
			}
		})
	}
	wg.Wait()
}

// due lists the successors that should have the chunk's state now. New successors should at once.
func (m *moments) due(c int, rounds uint64) []record.PeerID {
	step, ok := m.trainer.Kept(c)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !ok || m.plan == nil || m.place(c) != 0 || m.stale {
		return nil
	}
	to := m.successors(c)
	last := m.sent[c] // of a chunk that was taken over: nothing, so that successors have it at once
	pause := time.Duration(0)
	if rounds == 0 {
		rounds, pause = mirrorRounds, mirrorTime
	}
	waits := step < last.step+rounds || time.Since(last.at) < pause
	if step == 0 || waits && slices.Equal(to, last.to) {
		return nil
	}
	return to
}

// firstMirror notes that successors know the state of a chunk before the first step.
func (m *moments) firstMirror(c int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.plan != nil {
		m.sent[c] = mirrored{at: time.Now(), to: m.successors(c)}
	}
}

// successors of a chunk. Called with mu held.
func (m *moments) successors(c int) (ids []record.PeerID) {
	for _, o := range m.plan.Owners[c][1:] {
		ids = append(ids, m.plan.Members[o].ID)
	}
	return ids
}

// mirrorChunk sends a chunk's state to its successors and notes who has it.
func (j *Job) mirrorChunk(c int, to []record.PeerID) {
	m := j.moments
	x, ok, err := m.trainer.Moments(c)
	if err != nil || !ok || setOf(&x) == 0 {
		return
	}
	results := make(chan error, len(to))
	for _, peer := range to {
		j.loops.Go(func() { results <- m.send(j.ctx.Done(), peer, vectorMeta{Job: j.task.ID}, &x) })
	}
	for range to {
		err = errors.Join(err, <-results)
	}
	if err != nil {
		j.log.Debug("a mirror did not arrive everywhere", "chunk", c, "err", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent[c] = mirrored{step: x.Step, at: time.Now(), to: to}
}
