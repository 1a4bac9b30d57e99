package worker

import (
	"errors"
	"slices"
	"time"

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

// due lists the successors that should have the chunk's state now. New successors should at once.
func (m *moments) due(c int, rounds uint64) []record.PeerID {
	step, ok := m.trainer.Kept(c)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !ok || m.plan == nil || m.place(c) != 0 || m.stale {
		return nil
	}
	to := m.successors(c)
	last, known := m.sent[c]
	if !known {
		last = mirrored{at: time.Now(), to: to}
		if step == 0 { // nothing yet that could be lost
			m.sent[c] = last
		} else {
			last.to = nil
		}
	}
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
		j.loops.Go(func() { results <- m.send(j.ctx.Done(), peer, j.task.ID, 0, &x) })
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
