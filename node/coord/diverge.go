package coord

import (
	"fmt"
	"math"
	"slices"
)

// maxStrikes is how often a job goes back by itself before it fails.
const maxStrikes = 3

// badAfter is the number of rounds in a row that are not finite, with one of these totals behind those so far. That a batch
// which was put off is not finite is no surprise.
func (m *Machine) badAfter(t *Totals) uint64 {
	switch {
	case !t.NonFinite:
		return 0
	case m.putOff(m.job.round + 1):
		return m.job.bad
	}
	return m.job.bad + 1
}

// diverged tells that the job cannot get anywhere from its present weights. It depends on the log alone.
func (m *Machine) diverged() bool {
	return m.g.BadRounds > 0 && m.job.bad >= m.g.BadRounds && !m.job.cursor.done(&m.g)
}

func (m *Machine) hopeless() bool { return m.job.strikes >= maxStrikes || len(m.job.moves) >= maxMoves }

// turningBack tells that this node leads a job that has to go back to a checkpoint; it holds court for that.
func (m *Machine) turningBack() bool { return m.lead != nil && m.diverged() && !m.hopeless() }

// driveDiverged stops the rounds of a job that diverged, and ends one for which going back did not help.
func (m *Machine) driveDiverged() bool {
	if !m.diverged() {
		return false
	}
	if m.hopeless() {
		why := fmt.Sprintf("it diverged %d times: loss or gradient were not finite for %d steps in a row", m.job.strikes+1, m.job.bad)
		m.propose(contextCancel, m.job.round, 0, &CancelEntry{Why: why + "; lower optimizer.lr or set max_grad_norm"})
	}
	return true
}

// soundCheckpoint is what a job that diverged goes back to: the last settled checkpoint, or, when the job went back to that
// the last time and has settled none since, the one before; in the end the beginning.
func (j *job) soundCheckpoint() (s SettleEntry) {
	tried := uint64(math.MaxUint64)
	if j.strikes > 0 {
		tried = j.forks[len(j.forks)-1].Round
	}
	for _, c := range j.settled {
		if c.Round != tried {
			s = c
		}
	}
	return s
}

// movesAfter is what a Reset to the commit of a round says about the order of batches: those since then are put off if
// they made the job diverge. In diloco they are open again, and members share them differently.
func (m *Machine) movesAfter(round uint64) ([]Move, uint64) {
	j := m.job
	if !m.diverged() || round >= j.round {
		return j.moves, j.strikes
	}
	if m.g.diloco() {
		return j.moves, j.strikes + 1
	}
	return append(slices.Clone(j.moves), Move{At: round, Count: j.round - round}), j.strikes + 1
}

// tainted tells that a checkpoint of a commit would be no place to go back to: the rounds before it were not finite.
func (m *Machine) tainted(c commitAt) bool {
	return m.g.BadRounds > 0 && !c.cursor.done(&m.g) && c.entry != nil && c.entry.Bad > 0
}
